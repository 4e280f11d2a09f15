"""StepReasoner over a whole text: prompt through the encoder, chain through the reasoner and the decoder."""

from typing import Any

import torch
from torch import nn

from .cache_step_reasoner import Filling, StepReasonerCache
from .decoding_step_reasoner import kept
from .layers_step_reasoner import Rope
from .layout_step_reasoner import Layout, Stream
from .masks_step_reasoner import decoder_rule, encoder_rule, make_mask, reasoner_rule


class WholeText:
    """The part of `StepReasonerModel` that runs its three stacks over a text that has been laid out in streams."""

    config: Any  # StepReasonerConfig
    device: Any
    embed_tokens: nn.Embedding
    plan_slots: nn.Embedding
    rotary_emb: nn.Module
    norm: nn.Module
    encoder: Any  # lists of StepReasonerLayer
    reasoner: Any
    decoder: Any

    def _positions(self, shape, attention_mask, position_ids) -> torch.Tensor:
        if position_ids is not None:
            return position_ids.expand(shape)
        if attention_mask is not None:
            return (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)
        return torch.arange(shape[1], device=self.device).expand(shape)

    def _stacks(
        self, layout: Layout, input_ids, inputs_embeds, cache: StepReasonerCache | None
    ) -> tuple[torch.Tensor, ...]:
        """The chain's states, [batch, len(chain), hidden]: embeddings, each decoder layer's, the last normalised."""

        def embed(stream: Stream) -> torch.Tensor:
            if inputs_embeds is None:
                return self.embed_tokens(input_ids.gather(1, stream.index))
            return torch.take_along_dim(inputs_embeds, stream.index.unsqueeze(-1), dim=1)

        config, prompt, chain = self.config, layout.prompt, layout.chain
        memory, tokens = embed(prompt), embed(chain)
        prompt_rope, chain_rope = self._rope(tokens, prompt), self._rope(tokens, chain)
        memory = self._encode(memory, layout, prompt_rope)

        known, known_rope = prompt, prompt_rope
        if len(self.reasoner):
            read, read_rope, states = chain, chain_rope, tokens
            if config.plan_slots:
                slots = self.plan_slots.weight.repeat(len(layout.slots) // config.plan_slots, 1)
                states = torch.cat([tokens, slots.expand(len(tokens), -1, -1)], dim=1)
                read, read_rope = chain + layout.slots, _join(chain_rope, self._rope(tokens, layout.slots))
            known, known_rope = prompt + read, _join(prompt_rope, read_rope)
            mask = make_mask(config, reasoner_rule(read, known), tokens, len(read), len(known))
            filling = cache and Filling(cache, kept(cache, known, "reasoner"))
            for layer in self.reasoner:
                states = layer(states, memory, read_rope, known_rope, mask, past_key_values=filling)
            memory = torch.cat([memory, states], dim=1)

        keys, states = known + chain, tokens
        rule = decoder_rule(layout.asks, keys, len(known), config.decoder_window)
        mask = make_mask(config, rule, tokens, len(chain), len(keys))
        filling = cache and Filling(cache, kept(cache, keys, "decoder", len(chain), config.decoder_window))
        found = [tokens]
        for layer in self.decoder:
            states = layer(states, memory, chain_rope, _join(known_rope, chain_rope), mask, past_key_values=filling)
            found.append(states)
        return (*found[:-1], self.norm(states))

    def _rope(self, like: torch.Tensor, stream: Stream) -> Rope:
        return self.rotary_emb(like, stream.position)

    def _encode(self, states: torch.Tensor, layout: Layout, rope: Rope) -> torch.Tensor:
        types = (self.config.layer_types or [])[: len(self.encoder)]
        masks: dict[str, Any] = {}
        for kind in set(types):
            window = self.config.sliding_window if kind == "sliding_attention" else None
            short = window is None or states.shape[1] <= window
            if layout.plain_prompt and short and self.config._attn_implementation != "eager":
                masks[kind] = None
            else:
                rule = encoder_rule(layout.prompt, window)
                masks[kind] = make_mask(self.config, rule, states, states.shape[1], states.shape[1])
        for kind, layer in zip(types, self.encoder, strict=True):
            states = layer(states, None, rope, rope, masks[kind])
        return states


def _join(*ropes: Rope) -> Rope:
    cos, sin = (torch.cat(parts, dim=1) for parts in zip(*ropes, strict=True))
    return cos, sin
