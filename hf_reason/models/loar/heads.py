"""Routing at the grain of query heads: which heads work, the key/value groups that they read, and their attention."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import one_hot, scaled_dot_product_attention


@dataclass(frozen=True)
class HeadChoice:
    """The query heads of one layer that work, and where their keys and values are.

    A group none of whose heads work is not among `groups`. Rows that read fewer groups than another row of the batch
    hold further ones in their place, which nothing reads: a tensor is as wide for all rows.

    Attributes:
        heads: `(batch, k)`: numbers of the heads, ascending.
        groups: `(batch, g)`: numbers of the groups, ascending.
        slots: `(batch, k)`: the place of each head's group in `groups`.
        places: `(batch, k)`: each head's place in a table of `g x room` heads, those of a group side by side.
        room: Most working heads of a group.
    """

    heads: torch.Tensor
    groups: torch.Tensor
    slots: torch.Tensor
    places: torch.Tensor
    room: int

    @classmethod
    def of(cls, heads: torch.Tensor, size: int, count: int) -> "HeadChoice":
        """The choice of these heads.

        Args:
            heads: `(batch, k)`, ascending.
            size: Query heads of a group.
            count: Groups of the layer.
        """
        owners = heads // size
        read = one_hot(owners, count)  # (batch, k, count)
        used = read.amax(dim=1)
        width, room = torch.stack([used.sum(dim=1).amax(), read.sum(dim=1).amax()]).tolist()
        groups = used.topk(width, dim=1).indices.sort(dim=1).values
        slots = (groups[:, None] == owners[:, :, None]).int().argmax(dim=-1)
        rank = read.cumsum(dim=1).gather(2, owners[:, :, None])[:, :, 0] - 1
        return cls(heads, groups, slots, slots * room + rank, room)

    def rows(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "HeadChoice":
        """The choice for other rows: `change` moves, repeats or selects those of a tensor."""
        return HeadChoice(change(self.heads), change(self.groups), change(self.slots), change(self.places), self.room)


def packed_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    allowed: torch.Tensor | None,
    choice: HeadChoice,
    dropout: float = 0.0,
    scaling: float | None = None,
) -> torch.Tensor:
    """Attention of one token, the heads of a group as the queries of one: keys and values are read once a group.

    Args:
        query: `(batch, k, 1, head_dim)`.
        key: `(batch, g, keys, head_dim)`.
        value: As `key`.
        allowed: `(batch, 1, 1, keys)`, a mask; `None`: all keys.
        choice: Whose heads these are.
        dropout: Of the attention weights.
        scaling: Of the scores.

    Returns:
        `(batch, 1, k, head_dim)`.
    """
    batch, width, dim = query.shape[0], key.shape[1], query.shape[-1]
    index = choice.places[:, :, None].expand(-1, -1, dim)
    table = query.new_zeros(batch, width * choice.room, dim).scatter(1, index, query[:, :, 0])
    found = scaled_dot_product_attention(
        table.view(batch, width, choice.room, dim), key, value, allowed, dropout, scale=scaling
    )
    return found.reshape(batch, width * choice.room, dim).gather(1, index)[:, None]


def visible(present: torch.Tensor | None) -> torch.Tensor | None:
    """The mask of one token, `(batch, 1, 1, keys)`, where there are tokens; the last key is its own."""
    if present is None:
        return None
    allowed = present.bool().clone()
    allowed[:, -1] = True  # without any key a padding token would give NaN, and nobody reads it
    return allowed[:, None, None]
