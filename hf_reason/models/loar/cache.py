"""The cache of a routed model: only the groups that work, only the window, grown in blocks."""

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

# Tokens by which a full buffer grows: copying it for each token costs more than the groups save.
BLOCK = 256


class RoutedLayer(DynamicLayer):
    """Keys and values `(batch, working groups, tokens, head_dim)` of one layer, with the choice of its groups.

    Args:
        window: Tokens that the layer sees, or `None` for all.

    Attributes:
        groups: `(batch, k)`: the groups that work on each row, ascending; `None` before the first pass.
        heads: The heads that work, where they are routed (`HeadChoice`); `groups` are then those that they read.
        projections: Rows of the layer's projections for these groups, kept while the batch is one row.
    """

    def __init__(self, window: int | None = None):
        super().__init__()
        self.window = window
        self.is_sliding = window is not None
        self.is_croppable = window is None  # what has left the window is gone: no assisted decoding
        self.groups: torch.Tensor | None = None
        self.heads: Any = None
        self.projections: dict[str, Any] | None = None
        self.seen = 0
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None
        self._start = self._end = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add new tokens; returns all that the new tokens may look at."""
        if self.groups is not None and key_states.shape[1] != self.groups.shape[1]:
            key_states, value_states = (gather_groups(states, self.groups) for states in (key_states, value_states))
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        new, kept = key_states.shape[2], self._end - self._start
        self.seen += new
        joined: tuple[torch.Tensor, torch.Tensor] | None = None
        limit = None if self.window is None else self.window - 1
        if key_states.requires_grad or (limit is not None and new > limit):
            # a graph must not see its tensors overwritten; and a window's buffer must not hold a long piece
            joined = tuple(  # type: ignore[assignment]
                torch.cat([old, more], dim=2) if kept and old is not None else more
                for old, more in zip((self.keys, self.values), (key_states, value_states), strict=True)
            )
            assert joined is not None
            tail = kept + new if limit is None else min(limit, kept + new)
            last = [states[:, :, states.shape[2] - tail :] for states in joined]
            self._hold(last[0], last[1])
            return joined
        self._make_room(key_states, new)
        assert self._buffers is not None
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self._end : self._end + new] = states
        self._end += new
        whole = self._view(self._start)
        if limit is not None:
            self._start = max(self._start, self._end - limit)
        self.keys, self.values = self._view(self._start)
        return whole

    def _view(self, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        assert self._buffers is not None
        keys, values = self._buffers
        return keys[:, :, start : self._end], values[:, :, start : self._end]

    def _hold(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Make these tensors the content, without room for more."""
        # a copy, so that the whole piece they may be views of can be freed
        self._buffers = (keys.clone(), values.clone()) if not keys.requires_grad else (keys, values)
        self._start, self._end = 0, keys.shape[2]
        self.keys, self.values = self._buffers

    def _make_room(self, like: torch.Tensor, new: int) -> None:
        kept = self._end - self._start
        if self._buffers is not None and self._end + new <= self._buffers[0].shape[2]:
            return
        room = kept + new + (BLOCK if self.window is not None else max(BLOCK, (kept + new) // 8))
        shape = (like.shape[0], like.shape[1], room, like.shape[3])
        fresh = (like.new_empty(shape), like.new_empty(shape))
        if self._buffers is not None:
            for buffer, old in zip(fresh, self._view(self._start), strict=True):
                buffer[:, :, :kept] = old
        self._buffers, self._start, self._end = fresh, 0, kept

    def get_seq_length(self) -> int:
        return self.seen

    def get_max_length(self) -> int:
        return -1 if self.window is None else self.window

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        held = self._end - self._start
        return held + query_length, self.seen - held

    def num_bytes(self) -> int:
        """Memory of the buffers, room for growth included."""
        return sum(b.numel() * b.element_size() for b in self._buffers or ())

    def projection_bytes(self) -> int:
        """Memory of the working groups' rows of the projections, which are copied while the batch is one row."""
        parts = [part for pair in (self.projections or {}).values() for part in pair if part is not None]
        return sum(part.numel() * part.element_size() for part in parts)

    def _each_row(self, change: Any) -> None:
        if self._buffers is not None:
            # the whole buffers, room included: a beam search does this for every token, and the next one needs it
            self._buffers = (change(self._buffers[0]), change(self._buffers[1]))
            self.keys, self.values = self._view(self._start)
        if self.groups is not None:
            self.groups = change(self.groups)
        if self.heads is not None:
            self.heads = self.heads.rows(change)
        self.projections = None

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        self._each_row(lambda x: x.index_select(0, beam_idx.to(x.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._each_row(lambda x: x.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._each_row(lambda x: x[indices])

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last tokens (a number of 0 or below, as in transformers)."""
        if tokens_to_remove > 0:
            raise ValueError("crop expects the number of tokens to remove as a negative number.")
        if tokens_to_remove == 0 or self._buffers is None:
            return
        if self.window is not None and self.seen >= self.window:
            raise ValueError("A window layer of LoAR cannot be cropped: what has left the window is gone.")
        self._end += tokens_to_remove
        self.seen += tokens_to_remove
        self.keys, self.values = self._view(self._start)
        if self.seen == 0:  # another prompt may come, and choose otherwise
            self.groups = self.heads = self.projections = None

    def reset(self) -> None:
        super().reset()
        self.groups = self.heads = self.projections = self._buffers = None
        self.seen = self._start = self._end = 0


def gather_groups(states: torch.Tensor, groups: torch.Tensor, size: int = 1) -> torch.Tensor:
    """The heads of the chosen groups.

    Args:
        states: `(batch, groups x size, tokens, head_dim)`.
        groups: `(batch, k)`.
        size: Heads of a group.

    Returns:
        `(batch, k x size, tokens, head_dim)`.
    """
    batch, heads, tokens, width = states.shape
    if batch == 1:
        chosen = states.view(1, heads // size, size, tokens, width)[:, groups[0]]
        return chosen.reshape(1, -1, tokens, width)
    split = states.view(batch, heads // size, size, tokens, width)
    index = groups[:, :, None, None, None].expand(-1, -1, size, tokens, width)
    return split.gather(1, index).reshape(batch, -1, tokens, width)


def scatter_groups(states: torch.Tensor, groups: torch.Tensor, count: int, size: int) -> torch.Tensor:
    """The inverse: `(batch, tokens, k x size, head_dim)` to `(batch, tokens, count x size, head_dim)`, 0 elsewhere."""
    batch, tokens, _, width = states.shape
    split = states.view(batch, tokens, -1, size, width)
    index = groups[:, None, :, None, None].expand(-1, tokens, -1, size, width)
    whole = states.new_zeros(batch, tokens, count, size, width)
    return whole.scatter(2, index, split).view(batch, tokens, count * size, width)


def routed_cache(cache: Any, windows: list[int | None]) -> Any:
    """The cache with routed layers; an empty `DynamicCache` is changed in place.

    Raises:
        ValueError: for another kind of cache, or one that has been filled without routing or with other windows.
    """
    if all(isinstance(layer, RoutedLayer) for layer in cache.layers) and len(cache.layers) == len(windows):
        if [layer.window for layer in cache.layers] != windows:
            raise ValueError("The cache was filled with other windows. Start with an empty one.")
        return cache
    if type(cache) is not DynamicCache or cache.offloading:
        raise ValueError(
            f"LoAR keeps a cache of its own kind, made from a DynamicCache; it cannot use a {type(cache).__name__}"
            f"{' that is offloaded' if getattr(cache, 'offloading', False) else ''}. Leave cache_implementation out."
        )
    if cache.get_seq_length() > 0:
        raise ValueError(
            "The cache was filled before LoAR was applied. Start with an empty one. (Prefix tuning fills one of its "
            "own, so it does not work together with LoAR.)"
        )
    cache.layers = [RoutedLayer(window) for window in windows]
    cache.layer_class_to_replicate = None
    return cache
