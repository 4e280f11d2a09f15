"""Where the chain begins, and which piece a token belongs to.

Everything here follows from the token ids, the padding mask and the position ids, so that training, packing and
generation divide a sequence in the same way.
"""

from dataclasses import dataclass, replace

import torch

PADDING = -1  # document id of padding


@dataclass
class Stream:
    """A run of entries that attention reads or writes, gathered to the left; all tensors are [batch, length].

    Attributes:
        document: Which packed example an entry belongs to; PADDING for padding.
        position: Its position id, for the rotary embedding.
        rank: When the reasoner knows it: 0 for the prompt, 2 s for a token of piece s, 2 s - 1 for the plan slots that
            open piece s. Pieces are counted from 1 through the whole row.
        index: Its column in the input; slots have that of the token after which they are known.
    """

    document: torch.Tensor
    position: torch.Tensor
    rank: torch.Tensor
    index: torch.Tensor

    def __len__(self) -> int:
        return self.document.shape[1]

    def __add__(self, other: "Stream") -> "Stream":
        return Stream(*(torch.cat([getattr(self, n), getattr(other, n)], dim=1) for n in self.__dataclass_fields__))

    @property
    def valid(self) -> torch.Tensor:
        return self.document != PADDING


@dataclass
class Layout:
    """The streams of one batch.

    Attributes:
        prompt: Read by the encoder.
        chain: Read by the reasoner and the decoder: the last token of the prompt, whose state predicts the first token
            of the chain, and the chain.
        asks: The same tokens as queries of the decoder: each sees what has a lower rank than it has here, which is
            that of the piece of the token it predicts. So it is the rank in `chain`, but the last token of a piece
            counts to the next piece.
        slots: Plan slots, `plan_slots` for every piece that has begun; one begins also where a piece ends at the end
            of the text.
        plain_prompt: Whether every row is one prompt of the same length, so that the encoder needs no mask.
        packed: Whether a row holds several examples.
    """

    prompt: Stream
    chain: Stream
    asks: Stream
    slots: Stream
    plain_prompt: bool
    packed: bool


def documents(position_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """Number the packed examples of each row: a new one begins where the positions do not go on by one.

    Args:
        position_ids: [batch, time].
        attention_mask: [batch, time], 0 for padding, or None.

    Returns:
        [batch, time], from 0 in each row; PADDING where the mask is 0.
    """
    restarts = position_ids[:, 1:] != position_ids[:, :-1] + 1
    document = torch.nn.functional.pad(restarts.long().cumsum(dim=1), (1, 0))
    return document if attention_mask is None else document.masked_fill(attention_mask == 0, PADDING)


def from_first(begins: torch.Tensor, document: torch.Tensor) -> torch.Tensor:
    """True from the first True of each example to the example's end, but not on padding. Shapes [batch, time]."""
    begins = begins & (document != PADDING)
    seen = begins.long().cumsum(dim=1)
    before = torch.where(_changes(document), seen - begins.long(), 0).cummax(dim=1).values
    return (seen > before) & (document != PADDING)


def _completion_begins(wanted: torch.Tensor, thought: torch.Tensor, document: torch.Tensor) -> torch.Tensor:
    """Where the tokens that the model has to write say that the chain begins. Shapes [batch, time].

    A mask over all of an example (its first token cannot be predicted) does not tell the prompt from the completion:
    there the start of the thought does, and without one all of the example is chain.
    """
    first = _changes(document)
    whole = from_first(wanted & (first | _shifted(first)), document)
    number = document.clamp(min=0)
    thinks = torch.zeros_like(number).scatter_reduce(1, number, (thought & (document != PADDING)).long(), "amax")
    return wanted & ~(whole & thinks.gather(1, number).bool())


def piece_ends(ends: torch.Tensor, chain: torch.Tensor, first: torch.Tensor, longest: int) -> torch.Tensor:
    """True at the last token of every finished piece, as far as the tokens up to it tell. Shapes [batch, time].

    Args:
        ends: True at the tokens that end a piece; counts on the chain only.
        chain: True on the chain.
        first: True where an example's chain stream begins; that token never ends a piece.
        longest: Most tokens of a piece, at least 2; 0 for no limit.
    """
    ends = ends & chain & ~first
    if not longest:
        return ends
    columns = _columns(ends)
    opened = torch.where(first | (chain & _shifted(ends)), columns, 0).cummax(dim=1).values
    return ends | (chain & ~first & ((columns - opened + 1) % longest == 0))


def lay_out(
    input_ids: torch.Tensor | None,
    position_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    step_ids: torch.Tensor | None,
    prompt_length: int | None = None,
    completion_mask: torch.Tensor | None = None,
    *,
    thought_start: list[int],
    ends: list[int],
    max_piece_length: int,
    plan_slots: int,
) -> Layout:
    """Divide a batch into prompt, chain and plan slots.

    Args:
        input_ids: [batch, time]; may be None when `step_ids` is given.
        position_ids: [batch, time]; a restart begins a new packed example.
        attention_mask: [batch, time] or None.
        step_ids: [batch, time] or None: 0 on the prompt, then non-decreasing numbers; found from the ids when None.
            A step ends where the number changes, and not at the end of an example. The last token of a step sees the
            whole step and is seen by none of its other tokens, so the tokens up to it have to tell that it is the
            last: where that is not so, it knows in advance that the next token begins a step.
        prompt_length: Columns from here on are chain in any case.
        completion_mask: [batch, time] or None: true on what the model has to write. Unless there are `step_ids`, the
            chain begins at an example's first such token, if no token of `thought_start` comes before.
        thought_start: Ids that begin the chain.
        ends: Ids that end a piece.
        max_piece_length: Longest piece, at least 2; 0 for no limit.
        plan_slots: Slots a piece.

    Raises:
        ValueError: if both `input_ids` and `step_ids` are None.
    """
    document = documents(position_ids, attention_mask)
    valid = document != PADDING
    last = torch.nn.functional.pad(document[:, 1:] != document[:, :-1], (0, 1), value=True)
    if step_ids is not None:
        begins = step_ids > 0
        last_of_step = torch.nn.functional.pad(step_ids[:, 1:] != step_ids[:, :-1], (0, 1)) & ~last
    elif input_ids is not None:
        begins, last_of_step = _is_one_of(input_ids, thought_start), _is_one_of(input_ids, ends)
        if completion_mask is not None:
            begins = begins | _completion_begins(completion_mask.bool(), begins, document)
    else:
        raise ValueError("Pieces are found from input_ids; without them step_ids are needed.")
    chain = from_first(begins, document)
    if prompt_length is not None:
        chain |= valid & (_columns(document) >= prompt_length)
    following = torch.nn.functional.pad(chain[:, 1:], (0, 1), value=True)
    bridge = valid & ~chain & (following | last)
    inside = chain | bridge
    # without a prompt there is no bridge, and the first token of the chain opens the first piece
    first = inside & (bridge | ~_shifted(inside) | _changes(document))
    finished = piece_ends(last_of_step, chain, first, max_piece_length)
    piece = (first | (chain & _shifted(finished))).long().cumsum(dim=1)

    prompt, opens = valid & ~chain, first | finished
    several = (valid & (document != document.amax(dim=1, keepdim=True))).any()
    prompts, several = prompt.sum(1), several.expand(len(opens)).long()
    # the last row is no max(..., 1) below, since torch.compile fails on one of a size that it traces
    counts = torch.stack([prompts, inside.sum(1), opens.sum(1), several, prompts.clamp(min=1)])
    # the only read-back of the forward: the widths of the gathered streams
    most, fewest = torch.stack([counts.amax(1), counts.amin(1)]).tolist()
    packed = bool(most[3])
    position = position_ids.expand_as(document)
    tokens = Stream(document, position, 2 * piece, _columns(document))
    # a batch without any prompt keeps a column of padding: the encoder then gets gradients of zero, which
    # DistributedDataParallel needs, and not none at all
    gathered = _gather(tokens, prompt, most[4])
    gathered.rank = torch.zeros_like(gathered.rank)
    # the first token of a chain opens its own piece, the last token of a piece the next one
    ahead = finished.long()
    slots = Stream(document, position + ahead, 2 * (piece + ahead) - 1, tokens.index)
    slots = _gather(slots, opens, most[2] if plan_slots else 0)
    slots = Stream(*(getattr(slots, n).repeat_interleave(plan_slots or 1, 1) for n in slots.__dataclass_fields__))
    chain_stream = _gather(tokens, inside, most[1])
    asks = replace(chain_stream, rank=chain_stream.rank + 2 * ahead.gather(1, chain_stream.index))
    plain = most[0] == fewest[0] > 0 and not packed
    return Layout(gathered, chain_stream, asks, slots, plain, packed)


def _gather(streams: Stream, mask: torch.Tensor, width: int) -> Stream:
    index = gather_index(mask, width)
    found = Stream(*(getattr(streams, n).gather(1, index) for n in streams.__dataclass_fields__))
    found.document = found.document.masked_fill(~mask.gather(1, index), PADDING)
    return found


def gather_index(mask: torch.Tensor, width: int) -> torch.Tensor:
    """Columns that bring the True entries of each row to the left, in order. [batch, time] -> [batch, width]."""
    return torch.argsort((~mask).to(torch.int8), dim=1, stable=True)[:, :width]


def _columns(like: torch.Tensor) -> torch.Tensor:
    return torch.arange(like.shape[1], device=like.device).expand_as(like)


def _is_one_of(ids: torch.Tensor, wanted: list[int]) -> torch.Tensor:
    return torch.isin(ids, torch.tensor(wanted, dtype=ids.dtype, device=ids.device))


def _shifted(flags: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(flags[:, :-1], (1, 0), value=False)


def _changes(values: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(values[:, 1:] != values[:, :-1], (1, 0), value=True)
