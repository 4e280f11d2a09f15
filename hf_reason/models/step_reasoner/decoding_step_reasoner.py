"""StepReasoner with a cache: what a prefill leaves in it, and the reading of one new token after the other."""

from typing import Any

import torch
from torch import nn

from .cache_step_reasoner import Appending, Row, StepReasonerCache
from .layout_step_reasoner import Layout, Stream, gather_index
from .masks_step_reasoner import make_mask, up_to


def begin(cache: StepReasonerCache, layout: Layout, input_ids: torch.Tensor) -> None:
    """Enter each row's unfinished piece; the counts of kept columns follow with the layers (`kept`)."""
    chain, asks = layout.chain, layout.asks
    cache.tokens = input_ids.shape[1]
    # the rank with which the last token asks; nothing is pending where that token ends a piece
    now = asks.rank.masked_fill(~asks.valid, 0).amax(dim=1)
    unfinished = ((chain.rank == now[:, None]) & chain.valid).tolist()
    ids, positions, counts = (
        t.tolist() for t in (input_ids.gather(1, chain.index), chain.position, chain.valid.sum(dim=1))
    )
    cache.rows = [
        # a row may be nothing but padding, with which some batches are filled up
        Row([i for i, flag in zip(row, flags, strict=True) if flag], place[count - 1] + 1 if count else 0, rank)
        for row, flags, place, count, rank in zip(ids, unfinished, positions, counts, now.tolist(), strict=True)
    ]


def kept(cache: StepReasonerCache, keys: Stream, side: str, own: int = 0, window: int = 0) -> torch.Tensor:
    """Columns that the cache keeps: what each row's next token may see, and the `own` last ones.

    Args:
        cache: With the rows that `begin` entered; their counts of `side` are set.
        keys: What the layers of a stack attend to at prefill.
        side: "reasoner" or "decoder".
        own: Number of entries at the end of `keys` that are the decoder's own.
        window: The decoder's window; of its own entries no more than these are kept.

    Returns:
        [batch, columns]; a row's own count of them is valid.
    """
    memory = len(keys) - own
    now = torch.tensor([row.rank for row in cache.rows], device=keys.rank.device)
    known = keys.valid & (keys.rank < now[:, None])
    own_kept = keys.valid[:, memory:]
    if window:
        own_kept = own_kept & (own_kept.sum(dim=1, keepdim=True) - own_kept.long().cumsum(dim=1) < window)
    known[:, memory:] = own_kept
    lengths, counts = known.sum(dim=1).tolist(), own_kept.sum(dim=1).tolist()
    for row, length, count in zip(cache.rows, lengths, counts, strict=True):
        setattr(row, side, length)
        if window and own:
            row.own = list(range(length - count, length))
    return gather_index(known, max(lengths))


class CachedDecoding:
    """The part of `StepReasonerModel` that continues from a filled cache.

    A token that ends a piece sees the reasoner's states of that piece, as in a forward over the whole text. So the
    reasoner reads the piece first, and then the decoder reads the token.
    """

    config: Any  # StepReasonerConfig
    embed_tokens: nn.Embedding
    plan_slots: nn.Embedding
    rotary_emb: nn.Module
    norm: nn.Module
    reasoner: Any  # lists of StepReasonerLayer
    decoder: Any

    def _continue(self, input_ids: torch.Tensor | None, cache: StepReasonerCache) -> tuple[torch.Tensor, ...]:
        """States of new tokens of the chain, one column after the other, as `_stacks`: [batch, time, hidden]."""
        if input_ids is None:
            raise ValueError("With a cache StepReasoner needs input_ids: the ids say where a piece ends.")
        columns = [self._decode(column, cache) for column in input_ids.split(1, dim=1)]
        return tuple(torch.cat(states, dim=1) for states in zip(*columns, strict=True))

    def _decode(self, ids: torch.Tensor, cache: StepReasonerCache) -> list[torch.Tensor]:
        """[batch, 1] -> [batch, 1, hidden] for the embeddings and each layer."""
        rows, device = cache.rows, ids.device
        position = torch.tensor([[row.position] for row in rows], device=device)
        ends, longest = set(self.config.piece_end_token_ids), self.config.max_piece_length
        finished = []
        for number, (row, token) in enumerate(zip(rows, ids[:, 0].tolist(), strict=True)):
            row.pending.append(token)
            row.position += 1
            if token in ends or len(row.pending) == longest:
                finished.append(number)
        if finished:
            self._reason(finished, cache)
        states = self.embed_tokens(ids)
        rope = self.rotary_emb(states, position)
        columns = [row.next_column(self.config.decoder_window) for row in rows]
        lengths = [row.decoder for row in rows]
        appending = Appending(cache, None, columns, max(lengths))
        limits = None if min(lengths) == max(lengths) else torch.tensor(lengths, device=device)[:, None]
        mask = self._limit_mask(limits, states, appending.width)
        found = [states]
        for layer in self.decoder:
            states = layer(states, None, rope, rope, mask, past_key_values=appending)
            found.append(states)
        cache.tokens += 1
        return [*found[:-1], self.norm(states)]

    def _reason(self, finished: list[int], cache: StepReasonerCache) -> None:
        """Run the reasoner over the finished piece of these rows, and over the slots that open their next one."""
        every = list(range(len(cache.rows)))
        # PEFT's adapter_names has an adapter for each row of the batch: then all rows run, and the columns of those
        # without a finished piece lie behind what they count, where the next entries are written over them
        numbers = every if _mixes_adapters(self.reasoner) else finished
        rows = [cache.rows[n] for n in numbers]
        if len(self.reasoner):
            device, slots = self.embed_tokens.weight.device, self.config.plan_slots
            counts = [len(row.pending) if n in finished else 0 for n, row in zip(numbers, rows, strict=True)]
            width = max(counts) + slots
            ids = torch.tensor(
                [row.pending[:n] + [0] * (width - n) for row, n in zip(rows, counts, strict=True)], device=device
            )
            # a piece's tokens have consecutive positions; its slots have that of the token to come
            position = torch.tensor(
                [[row.position - max(n - i, 0) for i in range(width)] for row, n in zip(rows, counts, strict=True)],
                device=device,
            )
            states = self.embed_tokens(ids)
            if slots:
                for number, count in enumerate(counts):
                    states[number, count : count + slots] = self.plan_slots.weight
            rope = self.rotary_emb(states, position)
            where = None if len(numbers) == len(cache.rows) else numbers
            lengths = [row.reasoner for row in rows]
            appending = Appending(cache, where, lengths, max(lengths) + width)
            limits = None
            if slots or len(set(counts)) > 1 or len(set(lengths)) > 1:
                limits = torch.tensor(
                    [
                        [max(length + count + slots * (i >= count), 1) for i in range(width)]
                        for length, count in zip(lengths, counts, strict=True)
                    ],
                    device=device,
                )
            mask = self._limit_mask(limits, states, appending.width)
            for layer in self.reasoner:
                states = layer(states, None, rope, rope, mask, past_key_values=appending)
            appending = Appending(cache, where, [row.decoder for row in rows], 0)
            for layer in self.decoder:
                layer.remember(states, rope, appending)
        for number in finished:
            row = cache.rows[number]
            if len(self.reasoner):
                row.reasoner += len(row.pending) + self.config.plan_slots
                row.decoder += len(row.pending) + self.config.plan_slots
            row.pending = []

    def _limit_mask(self, limits: torch.Tensor | None, states: torch.Tensor, width: int):
        """Mask of queries [batch, n] that see the first `limits` [batch, n] of `width` columns; None: all of them."""
        if limits is None and self.config._attn_implementation != "flex_attention":
            return None
        if limits is None:
            limits = torch.full(states.shape[:2], width, device=states.device)
        return make_mask(self.config, up_to(limits), states, states.shape[1], width)


def _mixes_adapters(stack: nn.Module) -> bool:
    """Whether PEFT is running another adapter for each row (it hooks the layers while it does)."""
    return any(
        "adapter_names" in getattr(hook, "keywords", {})
        for module in stack.modules()
        for hook in module._forward_pre_hooks.values()
    )
