"""Packed rows, and whether a model keeps the examples of one apart: measured, since no config says so.

Packed examples are told apart by their positions alone, which begin at 0 in each. OPT, BLOOM, Falcon and MPT do not
look at them; models with a state (Mamba, RWKV, the Mamba layers of Jamba) carry it on from one example to the next, as
far as their kernels do not know the borders. An example then depends on its neighbours, and the loss is another one.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hf_reason.models.gathered import gathered
from hf_reason.text.spans import ADDED_COLUMNS, SPAN_COLUMNS
from hf_reason.trainers.sampling.order import domain_of_rows

if TYPE_CHECKING:
    from datasets import Dataset

_TOKENS = 40  # of each example of the test
# Deviations of an example's logits, relative to their spread, that rounding may cause in single and half precision:
# behind another text of the same length, where the kernels do the same sums, and alone.
_BEHIND_ANOTHER = (1e-5, 1e-3)
_ALONE = (1e-3, 5e-2)
_NOT_READ = {"labels", *SPAN_COLUMNS, *ADDED_COLUMNS}


def pack_rows(
    dataset: "Dataset", length: int, strategy: str, seed: int | None, by_domain: bool, map_kwargs: dict[str, Any]
) -> "Dataset":
    """Pack whole examples into rows of `length` tokens.

    Args:
        dataset: Token columns only.
        length: Tokens of a row.
        strategy: TRL's name of it.
        seed: Shuffle before packing; `None` leaves the order.
        by_domain: Pack each domain apart, so that a sampler can draw rows by domain.
        map_kwargs: For `map`.
    """
    from datasets import concatenate_datasets
    from trl.data_utils import pack_dataset

    if seed is not None:
        dataset = dataset.shuffle(seed=seed)
    if not by_domain:
        return pack_dataset(dataset, length, strategy, map_kwargs)
    rows = np.asarray(domain_of_rows(dataset))
    parts = [dataset.select(np.flatnonzero(rows == key)) for key in np.unique(rows)]
    return concatenate_datasets([pack_dataset(part, length, strategy, map_kwargs) for part in parts])


class PackingCheck:
    """Compares an example behind another one with the same example behind another text, and alone; once.

    Args:
        rows: Prepared examples.
        collate: The collator, which packs.
        precision: Makes the context of a forward pass (autocast).
        what: The model's name in messages.

    Attributes:
        is_due: Whether the comparison is still to be made.
    """

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]],
        collate: Callable[[list[dict[str, Any]]], Mapping[str, Any]],
        precision: Callable[[], AbstractContextManager[Any]],
        what: str = "model",
    ):
        self._first, self._second = _two_examples(rows)
        self._collate, self._precision, self._what = collate, precision, what
        self.is_due = True

    def try_now(self, model: Any, device: torch.device) -> None:
        """Compare, unless the model cannot run without what the training wraps it in.

        Args:
            model: The model, without wrappers.
            device: Where it is trained.

        Raises:
            ValueError: if an example depends on its neighbours or on its place in the row.
        """
        # what ZeRO-3 has cut has its place already; once its engine is there, a pass before the first step breaks that
        if any(not hasattr(p, "ds_numel") and p.device.type != device.type for p in model.parameters()):
            return
        with gathered(model):
            try:
                # the gradient shows what is too small for half precision at the start, and grows
                reached = self._reaches_a_neighbour(model, device)
            except (RuntimeError, NotImplementedError):
                return
            self(model, device, reached)

    def __call__(self, model: Any, device: torch.device, reached: bool = False) -> None:
        """Compare, with the model as the training calls it.

        Args:
            model: The model.
            device: Where it is.
            reached: Whether an example is known to depend on its neighbours.

        Raises:
            ValueError: if an example depends on its neighbours or on its place in the row.
        """
        self.is_due = False
        behind_another, alone, half = self._deviations(model, device)
        if not reached and behind_another <= _BEHIND_ANOTHER[half] and alone <= _ALONE[half]:
            return
        config = getattr(model, "module", model).config
        raise ValueError(
            f"The {self._what} ({config.model_type}) does not keep packed examples apart: the logits of an example "
            f"move by {max(behind_another, alone):.2g} of their spread with the examples that share its row, so the "
            "loss would be another one. Set packing=False and padding_free=False; "
            "train_sampling_strategy='group_by_length' saves most of the padding."
        )

    def _reaches_a_neighbour(self, model: Any, device: torch.device) -> bool:
        """Whether the second example's logits have a gradient in tokens that only the first one has."""
        only_first = torch.tensor(sorted(set(self._first) - set(self._second)), device=device)
        embedded: list[tuple[torch.Tensor, torch.Tensor]] = []

        def keep(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
            output = output.detach().requires_grad_(True)
            embedded.append((arguments[0], output))
            return output

        handle = model.get_input_embeddings().register_forward_hook(keep)
        try:
            logits = self._logits(model, device, self._first, self._second)
            gradients = torch.autograd.grad(
                logits[-len(self._second) :].float().sum(), [output for _, output in embedded], allow_unused=True
            )
        finally:
            handle.remove()
        return any(
            bool((gradient[torch.isin(ids, only_first)] != 0).any())
            for (ids, _), gradient in zip(embedded, gradients, strict=True)
            if gradient is not None
        )

    @torch.no_grad()
    def _deviations(self, model: Any, device: torch.device) -> tuple[float, float, bool]:
        """How far an example's logits move behind another text, and alone; and whether they are of half precision."""
        packed = self._logits(model, device, self._first, self._second)
        alone = self._logits(model, device, self._second)
        others = (self._logits(model, device, self._first[::-1], self._second), alone)
        kept, spread = alone.shape[0], alone.double().std().clamp(min=1e-12)
        behind_another, by_itself = (
            ((packed[-kept:] - logits[-kept:]).double().square().mean().sqrt() / spread).item() for logits in others
        )
        kinds = {alone.dtype, *(p.dtype for p in model.parameters())}
        with self._precision():
            half = bool(kinds - {torch.float32, torch.float64}) or torch.is_autocast_enabled(device.type)
        return behind_another, by_itself, half

    def _logits(self, model: Any, device: torch.device, *examples: list[int]) -> torch.Tensor:
        """`(tokens, vocabulary)` of packed examples, without the padding behind them."""
        batch = self._collate([{"input_ids": ids, "labels": ids} for ids in examples])
        inputs = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in batch.items()
            if name not in _NOT_READ
        }
        training = model.training
        model.eval()
        try:
            with self._precision():
                logits: torch.Tensor = model(**inputs, use_cache=False).logits
        finally:
            model.train(training)
        return logits[0, : sum(map(len, examples))]


def _two_examples(rows: Iterable[Mapping[str, Any]]) -> tuple[list[int], list[int]]:
    """The beginnings of two examples; of one, if there is no other."""
    found: list[list[int]] = []
    for row in rows:
        start = 0
        for length in row.get("seq_lengths") or [len(row["input_ids"])]:
            found.append(list(row["input_ids"][start : start + min(length, _TOKENS)]))
            start += length
            # two that begin alike would show nothing
            if len(found) > 1 and found[-1] != found[0]:
                return found[0], found[-1]
        if len(found) > 100:
            break
    return found[0], found[0][: len(found[0]) // 2 + 1]
