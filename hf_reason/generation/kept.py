"""What a batch that paused has read: its chains go on from their keys and values, and new chains join them.

Reading the rows again instead is a forward over all of their tokens, which a CPU or a large batch feels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer


@dataclass
class Kept:
    """Rows as `generate` left them.

    Attributes:
        chains: A `LiveChain` for each row.
        ids: All tokens, padded in front, [rows, tokens].
        mask: 1 where there is no padding, [rows, tokens].
        past: Keys and values of all tokens but the last.
    """

    chains: list[Any]
    ids: torch.Tensor
    mask: torch.Tensor
    past: Any  # a DynamicCache of DynamicLayers

    def only(self, chains: Sequence[Any]) -> "Kept | None":
        """The rows of those of these chains that it has, without the padding that all of them have in front."""
        wanted = {id(chain) for chain in chains}
        places = [place for place, chain in enumerate(self.chains) if id(chain) in wanted]
        if not places:
            return None
        if len(places) < len(self.chains):
            rows = torch.tensor(places, device=self.ids.device)
            self.past.batch_select_indices(rows)
            self.ids, self.mask = self.ids[rows], self.mask[rows]
            self.chains = [self.chains[place] for place in places]
        if spare := int(self.mask.any(dim=0).int().argmax()):
            self.ids, self.mask = self.ids[:, spare:], self.mask[:, spare:]
            for layer in self.past.layers:
                layer.keys, layer.values = layer.keys[..., spare:, :], layer.values[..., spare:, :]
        return self

    def with_rows(self, other: "Kept") -> "Kept":
        """Both batches as one, the shorter one padded in front."""
        width = max(self.ids.shape[1], other.ids.shape[1])
        left, right = width - self.ids.shape[1], width - other.ids.shape[1]
        for layer, its in zip(self.past.layers, other.past.layers, strict=True):
            layer.keys = torch.cat([_padded(layer.keys, left), _padded(its.keys, right)])
            layer.values = torch.cat([_padded(layer.values, left), _padded(its.values, right)])
        ids = torch.cat([_in_front(self.ids, left), _in_front(other.ids, right)])
        mask = torch.cat([_in_front(self.mask, left), _in_front(other.mask, right)])
        return Kept(self.chains + other.chains, ids, mask, self.past)


def kept_of(chains: Sequence[Any], ids: torch.Tensor, mask: torch.Tensor, past: Any) -> Kept | None:
    """What is left of a call of `generate`; `None` for a cache that is more than keys and values of each token.

    Args:
        chains: The rows.
        ids: Its output, [rows, tokens].
        mask: The attention mask that it was given; what it wrote has no padding.
        past: Its cache.
    """
    if type(past) is not DynamicCache or any(type(layer) is not DynamicLayer for layer in past.layers):
        return None
    layers: list[Any] = past.layers
    if any(layer.keys is None or layer.keys.shape[-2] != ids.shape[1] - 1 for layer in layers):
        return None
    mask = torch.cat([mask, mask.new_ones(len(mask), ids.shape[1] - mask.shape[1])], dim=1)
    return Kept(list(chains), ids, mask, past)


def _padded(states: torch.Tensor, count: int) -> torch.Tensor:
    """States [rows, heads, tokens, width] with so many tokens of zeros in front."""
    return torch.nn.functional.pad(states, (0, 0, count, 0)) if count else states


def _in_front(values: torch.Tensor, count: int) -> torch.Tensor:
    return torch.nn.functional.pad(values, (count, 0)) if count else values
