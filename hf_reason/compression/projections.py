"""The weight matrices of a model that compression works on."""

import re
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from .errors import PruningError

# A part of a module's name: self_attn, self_attention, attention, attn, cross_attn.
_ATTENTION = re.compile(r"(?:^|_)(?:attn|attention)$")
KINDS = ("attention", "feed_forward", "all")


def projections(model: Any, kind: str = "attention") -> dict[str, nn.Module]:
    """Full name -> linear module (`nn.Linear`, GPT-2's `Conv1D`) inside layers, in the model's order; no heads.

    Args:
        model: A causal language model with plain weights.
        kind: `attention`: those of attention modules (queries, keys, values, output; fused ones as one matrix);
            `feed_forward`: the other ones inside layers, experts and their routers among them; `all`: both.

    Raises:
        PruningError: if the model is quantised, adapted or offloaded, or has no such module.
    """
    if kind not in KINDS:
        raise PruningError(f"modules must be one of {', '.join(KINDS)}, got {kind!r}.")
    _check_plain(model)
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        parts = name.split(".")
        if not isinstance(module, nn.Linear | Conv1D) or not any(part.isdigit() for part in parts):
            continue
        if kind == "all" or any(map(_ATTENTION.search, parts)) == (kind == "attention"):
            found[name] = module
    if not found:
        raise PruningError(
            f"{type(model).__name__} has no linear modules of the kind {kind!r}: nothing can be pruned."
        )
    return found


def _check_plain(model: Any) -> None:
    if getattr(model, "is_quantized", False) or getattr(model.config, "quantization_config", None):
        raise PruningError("The model is quantised: prune it in its own precision first, then quantise it.")
    for name, weight in model.named_parameters():
        if "lora_" in name or ".base_layer." in name:
            raise PruningError(
                "The model carries an adapter: merge it (merge_and_unload), or prune the base and train the adapter "
                "again."
            )
        if weight.is_meta or not weight.numel():
            raise PruningError(f"The weights of {name} are not in memory: load the model without offloading.")
