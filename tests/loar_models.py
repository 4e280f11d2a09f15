"""Routed models and batches that the tests of both grains share."""

from typing import Any

import torch

from hf_reason import LoARConfig, apply_loar


def routed(model: Any, **fields: Any) -> Any:
    """A LoAR with routers whose choices differ between rows."""
    loar = apply_loar(model, LoARConfig(**{"budget": 0.5, "anneal_ratio": 0.0, **fields}))
    torch.manual_seed(1)
    for name, parameter in loar.named_parameters():
        torch.nn.init.normal_(parameter, std=6.0 if name.endswith("weight") and "routers" in name else 1.0)
    return loar


def batch(length: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of three rows, two of them padded on the left."""
    torch.manual_seed(2)
    ids, mask = torch.randint(2, 90, (3, length)), torch.ones(3, length, dtype=torch.long)
    mask[1, :7] = 0
    mask[2, :3] = 0
    return ids, mask
