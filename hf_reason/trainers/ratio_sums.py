"""Figures of the log that are ratios of sums over many batches and processes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator


class RatioSums:
    """Numerators and denominators by name, added up without a wait for the device.

    A figure whose denominator is `None` is a plain sum. Every process must add the same names between two calls of
    `take`; its values may be 0.
    """

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._plain: set[str] = set()

    def add(self, device: torch.device, parts: Mapping[str, tuple[Any, Any]]) -> None:
        """Add `(part, whole)` of some figures: numbers, or tensors of one number."""
        for name, (part, whole) in parts.items():
            if whole is None:
                self._plain.add(name)
            pair = (part, 0 if whole is None else whole)
            values = torch.stack([torch.as_tensor(value, device=device).double().reshape(()) for value in pair])
            self._sums[name] = self._sums[name] + values if name in self._sums else values

    def take(self, accelerator: "Accelerator") -> dict[str, float]:
        """Part / whole of each figure over all processes; those with nothing to count are left out. Begins anew."""
        names = sorted(self._sums)
        if not names:
            return {}
        sums = torch.stack([self._sums[name] for name in names])
        self._sums = {}
        if accelerator.num_processes > 1:
            sums = accelerator.gather(sums.unsqueeze(0)).sum(dim=0)
        found = {}
        for name, (part, whole) in zip(names, sums.tolist(), strict=True):
            if name in self._plain or whole:
                found[name] = part if name in self._plain else part / whole
        return found
