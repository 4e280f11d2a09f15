"""The cache of StepReasoner: keys and values of the reasoner and the decoder, and the piece that is being written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

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
    # once the layer is initialised
    keys: torch.Tensor
    values: torch.Tensor

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

    def update(  # type: ignore[override]  # only Appending calls it, and columns are needed
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        rows: list[int] | None,
        columns: Sequence[int],
        width: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write into `rows`, from these columns on.

        Args:
            key_states, value_states: [rows, heads, new, head_dim].
            rows: Row numbers; None for all.
            columns: First column to write, for each of these rows.
            width: Columns to return; 0 for none.

        Returns:
            Keys and values of these rows, [rows, heads, width, head_dim].
        """
        new, device = key_states.shape[2], key_states.device
        self._reserve(max(columns) + new)
        numbers = None if rows is None else torch.tensor(rows, device=device)
        if rows is None and min(columns) == max(columns):  # the common case needs no index
            where: tuple = (slice(None), slice(columns[0], columns[0] + new))
        else:
            every = torch.arange(len(columns), device=device) if numbers is None else numbers
            first = torch.tensor(columns, device=device)[:, None]
            where = (every[:, None], first + torch.arange(new, device=device))

        def write(buffer: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
            buffer[where] = states.transpose(1, 2)
            return (buffer[:, :width] if numbers is None else buffer[numbers, :width]).transpose(1, 2)

        return write(self.keys, key_states), write(self.values, value_states)

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

    get_max_cache_shape = get_max_length  # its older name


@dataclass
class Row:
    """What one row of the batch has behind it.

    Attributes:
        pending: Ids of the tokens of its unfinished piece; the reasoner has not read them.
        position: Position id of the next token.
        rank: What its next token may see has a lower rank in the layout; used at prefill.
        reasoner: Columns filled in the reasoner's buffers.
        decoder: Columns filled in the decoder's buffers.
        own: Those of them that hold the decoder's own tokens, oldest first; counted with a `decoder_window` only.
    """

    pending: list[int] = field(default_factory=list)
    position: int = 0
    rank: int = 0
    reasoner: int = 0
    decoder: int = 0
    own: list[int] = field(default_factory=list)

    def copies(self) -> dict[str, list[int]]:
        """The lists, copied: rows that were one beam go on apart."""
        return {"pending": list(self.pending), "own": list(self.own)}

    def next_column(self, window: int) -> int:
        """Where the decoder's next own entry is written: behind the others, or over the one that leaves the window."""
        if window and len(self.own) == window:
            column = self.own.pop(0)
        else:
            column = self.decoder
            self.decoder += 1
        if window:
            self.own.append(column)
        return column


class StepReasonerCache(Cache):
    """Keys and values of the finished pieces in the reasoner, and of these and the tokens in the decoder.

    A column is an entry, not a time step: the prompt's entries first, then, as pieces finish, those of the reasoner,
    and in the decoder's layers the tokens in between. A piece's entries come before the token that ends it, which sees
    them. Everything in a row's filled columns is visible to its next token, so decoding needs no more than each row's
    length.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: StepReasonerConfig) -> None:
        stacks = ["reasoner"] * config.num_reasoner_layers + ["decoder"] * config.num_decoder_layers
        super().__init__(layers=[RaggedLayer(stack) for stack in stacks])
        self.rows: list[Row] = []
        self.tokens = 0

    @property
    def ragged(self) -> list[RaggedLayer]:
        """The layers; all are of this class."""
        return cast(list[RaggedLayer], self.layers)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens read so far, prompt, padding and chain together."""
        return self.tokens

    def nbytes(self) -> int:
        """Bytes of the filled columns (the buffers hold a reserve beyond them)."""
        return sum(layer.nbytes(self.rows) for layer in self.ragged)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._select(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._select(torch.arange(len(self.rows)).repeat_interleave(repeats))

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        self._select(beam_idx)

    def _select(self, index: torch.Tensor) -> None:
        for layer in self.ragged:
            if layer.is_initialized:
                layer.select(index.to(layer.device))
        self.rows = [replace(self.rows[i], **self.rows[i].copies()) for i in index.tolist()]

    def reset(self) -> None:
        self.layers = [RaggedLayer(layer.stack) for layer in self.ragged]
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

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.cache.ragged[layer_idx].fill(key_states, value_states, self.keep)
        return key_states, value_states


class Appending:
    """Passed to the layers afterwards: what they made is written where each row's `columns` say, and all is returned.

    Args:
        cache: Its buffers are written and read.
        rows: Row numbers; None for all.
        columns: First column to write, for each of these rows.
        width: Columns to return; 0 for none.
    """

    def __init__(self, cache: StepReasonerCache, rows: list[int] | None, columns: Iterable[int], width: int) -> None:
        self.cache, self.rows, self.columns, self.width = cache, rows, list(columns), width

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        layer = self.cache.ragged[layer_idx]
        return layer.update(key_states, value_states, self.rows, self.columns, self.width)
