"""Structured pruning: whole key/value groups and feed-forward channels leave; config and shapes become smaller."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from hf_reason.models.loar import LoARConfig, apply_loar, calibrate_routers
from hf_reason.models.student import student_from_teacher

from .activations import input_norms
from .errors import PruningError

Progress = Callable[[Iterable[Any]], Iterable[Any]]


def smaller_model(
    model: Any,
    examples: Sequence[Mapping[str, Any]],
    *,
    num_key_value_heads: int | None = None,
    intermediate_size: int | None = None,
    num_hidden_layers: int | None = None,
    layers: Sequence[int] | None = None,
    progress: Progress = iter,
) -> Any:
    """A model of the same class without the key/value groups and the channels that matter least on the examples.

    Each layer keeps the same number of groups, and which ones is its own choice. A group leaves with all its query
    heads; what it is worth is the rise of the loss without it (`calibrate_routers`, as for LoAR). A feed-forward
    channel is worth the norm of its activations times the norm of its column in `down_proj`. The result is an ordinary
    checkpoint: `save_pretrained`, `from_pretrained`.

    Args:
        model: A causal language model of the Llama, Mistral, Qwen2 or Qwen3 shape, with plain weights.
        examples: Encoded records (`input_ids`, `labels`) of the training: some dozens.
        num_key_value_heads: Groups that each layer keeps.
        intermediate_size: Channels that each layer keeps.
        num_hidden_layers: Layers that stay, evenly chosen; or
        layers: these layers.
        progress: Wraps loops.

    Returns:
        The smaller model, in the same precision, on the same device; the given one is unchanged.

    Raises:
        PruningError: if nothing smaller is asked for, or the model has no such parts.
        ValueError: if a number does not fit the model.
    """
    if num_key_value_heads is None and intermediate_size is None and num_hidden_layers is None and layers is None:
        raise PruningError(
            "Nothing is to be removed: set num_key_value_heads, intermediate_size, num_hidden_layers or layers."
        )
    try:
        from_whole = student_from_teacher(model, num_hidden_layers=num_hidden_layers, layers=layers)
    except ValueError as error:
        if not str(error).startswith("A student cannot be taken out of"):
            raise
        raise PruningError(
            "Smaller shapes work for models of the Llama, Mistral, Qwen2 and Qwen3 shape, not for "
            f"{model.config.model_type!r} ({type(model).__name__}). Set single weights to zero instead (ratio), or "
            "quantise it."
        ) from error
    groups = channels = None
    if num_key_value_heads is not None:
        _check_count("num_key_value_heads", num_key_value_heads, model.config.num_key_value_heads)
        groups = _highest(group_importance(from_whole, examples, progress=progress), num_key_value_heads)
    if intermediate_size is not None:
        _check_count("intermediate_size", intermediate_size, model.config.intermediate_size)
        channels = _highest(channel_importance(from_whole, examples, progress=progress), intermediate_size)
    smaller = student_from_teacher(from_whole, groups=groups, channels=channels)
    return smaller.train(model.training)


def group_importance(model: Any, examples: Sequence[Mapping[str, Any]], *, progress: Progress = iter) -> torch.Tensor:
    """The rise of the loss without each key/value group, nats a token, `(layers, groups)`; the model stays as it was.

    Raises:
        PruningError: if a layer has a single group.
        ValueError: if LoAR does not know the architecture, or no example has targets.
    """
    config = model.config.get_text_config()
    groups, count = config.num_key_value_heads, config.num_hidden_layers
    if groups < 2:
        raise PruningError("Each layer has one key/value group, so none can leave. Remove channels or layers.")
    loar = apply_loar(model, LoARConfig(budget=[groups - 1] * count, shared_groups=0))
    try:
        return calibrate_routers(model, [dict(example) for example in examples], progress=progress)
    finally:
        loar.unload()


def channel_importance(
    model: Any, examples: Sequence[Mapping[str, Any]], *, progress: Progress = iter
) -> torch.Tensor:
    """The norm of each feed-forward channel's activations times that of its column, `(layers, channels)`, float32."""
    norms = input_norms(model, examples, modules="feed_forward", progress=progress)
    rows = []
    for number, layer in enumerate(model.base_model.layers):
        name = next(name for name in norms if name.endswith(f"layers.{number}.mlp.down_proj"))
        rows.append(norms[name] * layer.mlp.down_proj.weight.detach().float().norm(dim=0))
    return torch.stack(rows)


def _check_count(name: str, count: int, before: int) -> None:
    if not 1 <= count < before:
        raise PruningError(f"{name}={count}: the model has {before}; give a number from 1 to {before - 1}.")


def _highest(importance: torch.Tensor, count: int) -> list[list[int]]:
    """For each row the `count` highest, in their order."""
    return [sorted(row.topk(count).indices.tolist()) for row in importance]
