"""The cache of StepReasoner: keys and values of the reasoner and the decoder, and the piece that is being written."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from .configuration_step_reasoner import StepReasonerConfig

_HEADROOM = 64  # columns by which a full buffer grows, at least


class RaggedLayer(CacheLayerMixin):
    """Keys and values of one layer, each row filled to its own length: [batch, capacity, heads, head_dim].

    Args:
        stack: "reasoner" or "decoder"; the `Row` field that holds a row's length.
    """

    is_compileable = False
    is_sliding = False

    def __init__(self, stack: str) -> None:
        super().__init__()
        self.stack = stack

    def nbytes(self, rows: list["Row"]) -> int:
        """Bytes of the filled columns."""
        if not self.is_initialized:
            return 0
        columns = sum(getattr(row, self.stack) for row in rows)
        return columns * (self.keys[0, :1].nbytes + self.values[0, :1].nbytes)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys, self.values = key_states, value_states
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def fill(self, key_states: torch.Tensor, value_states: torch.Tensor, keep: torch.Tensor) -> None:
        """Begin with the columns `keep` [batch, width] of states [batch, heads, keys, head_dim]."""
        index = keep[:, :, None, None]
        states = (key_states.transpose(1, 2), value_states.transpose(1, 2))
        self.lazy_initialization(*(torch.take_along_dim(s, index, dim=1) for s in states))

    def update(self, key_states, value_states, rows=None, lengths=(), width=0):
        """Write behind the first `lengths` columns of `rows`.

        Args:
            key_states, value_states: [rows, heads, new, head_dim].
            rows: Row numbers; None for all.
            lengths: Columns of each of these rows that are filled already.
            width: Columns to return; 0 for none.

        Returns:
            Keys and values of these rows, [rows, heads, width, head_dim].
        """
        new, device = key_states.shape[2], key_states.device
        self._reserve(max(lengths) + new)
        buffers = (self.keys, self.values)
        states = (key_states.transpose(1, 2), value_states.transpose(1, 2))
        if rows is None and min(lengths) == max(lengths):  # the common case needs no index
            for buffer, written in zip(buffers, states, strict=True):
                buffer[:, lengths[0] : lengths[0] + new] = written
        else:
            numbers = torch.tensor(list(range(len(lengths))) if rows is None else rows, device=device)
            columns = torch.tensor(lengths, device=device)[:, None] + torch.arange(new, device=device)
            for buffer, written in zip(buffers, states, strict=True):
                buffer[numbers[:, None], columns] = written
            if rows is not None and width:
                buffers = tuple(buffer[numbers] for buffer in buffers)
        return tuple(buffer[:, :width].transpose(1, 2) for buffer in buffers)

    def _reserve(self, columns: int) -> None:
        missing = columns - self.keys.shape[1]
        if missing > 0:
            more = (0, 0, 0, 0, 0, max(missing, _HEADROOM, self.keys.shape[1] // 4))
            self.keys = torch.nn.functional.pad(self.keys, more)
            self.values = torch.nn.functional.pad(self.values, more)

    def select(self, rows: torch.Tensor) -> None:
        if self.is_initialized:
            self.keys, self.values = self.keys[rows], self.values[rows]

    def get_seq_length(self) -> int:
        return self.keys.shape[1] if self.is_initialized else 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1

    get_max_cache_shape = get_max_length


@dataclass
class Row:
    """What one row of the batch has behind it.

    Attributes:
        pending: Ids of the tokens of its unfinished piece; the reasoner has not read them.
        position: Position id of the next token.
        rank: What the next token sees is of a lower rank; used at prefill.
        reasoner: Columns filled in the reasoner's buffers.
        decoder: Columns filled in the decoder's buffers.
    """

    pending: list[int] = field(default_factory=list)
    position: int = 0
    rank: int = 0
    reasoner: int = 0
    decoder: int = 0


class StepReasonerCache(Cache):
    """Keys and values of the finished pieces in the reasoner, and of these and the tokens in the decoder.

    A column is an entry, not a time step: the prompt's entries first, then, as pieces finish, those of the reasoner,
    and in the decoder's layers the tokens in between. Everything in a row's filled columns is visible to its next
    token, so decoding needs no more than each row's length.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: StepReasonerConfig) -> None:
        stacks = ["reasoner"] * config.num_reasoner_layers + ["decoder"] * config.num_decoder_layers
        super().__init__(layers=[RaggedLayer(stack) for stack in stacks])
        self.rows: list[Row] = []
        self.tokens = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens read so far, prompt, padding and chain together."""
        return self.tokens

    def nbytes(self) -> int:
        """Bytes of the filled columns (the buffers hold a reserve beyond them)."""
        return sum(layer.nbytes(self.rows) for layer in self.layers)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._select(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._select(torch.arange(len(self.rows)).repeat_interleave(repeats))

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        self._select(beam_idx)

    def _select(self, index: torch.Tensor) -> None:
        for layer in self.layers:
            if layer.is_initialized:
                layer.select(index.to(layer.device))
        self.rows = [replace(self.rows[i], pending=list(self.rows[i].pending)) for i in index.tolist()]

    def reset(self) -> None:
        self.layers = [RaggedLayer(layer.stack) for layer in self.layers]
        self.rows, self.tokens = [], 0

    def crop(self, *args, **kwargs):
        raise ValueError(
            "The cache of StepReasoner cannot be cut back (a finished piece cannot be opened again), so assisted and "
            "prompt-lookup decoding are not available. Generate without an assistant."
        )


class Filling:
    """Passed to the layers at prefill: they attend to what they made, and the finished part of it is kept."""

    def __init__(self, cache: StepReasonerCache, keep: torch.Tensor) -> None:
        self.cache, self.keep = cache, keep

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int):
        self.cache.layers[layer_idx].fill(key_states, value_states, self.keep)
        return key_states, value_states


class Appending:
    """Passed to the layers afterwards: what they made is written behind each row's columns, and all of it returned."""

    def __init__(self, cache: StepReasonerCache, rows: list[int] | None, lengths: Iterable[int], new: int) -> None:
        self.cache, self.rows, self.lengths = cache, rows, list(lengths)
        self.width = max(self.lengths) + new

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int):
        layer = self.cache.layers[layer_idx]
        return layer.update(key_states, value_states, self.rows, self.lengths, self.width)
