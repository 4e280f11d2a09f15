"""Longer contexts through the model's own config: sliding windows on chosen layers, and scaled rotary positions.

Both work on a config before a model is made of it and on a model in memory, whose parts that have read the config
already are brought up to date; saved and loaded again, the model is the same.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .layer_selection import parse_layers

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

# Model types whose code chooses each layer's mask by config.layer_types and hands the window to the attention kernels
# (read in transformers 5.23, each with a test; Qwen2-MoE does the first and not the second).
_LAYERED = ("qwen2", "qwen3", "smollm3", "ministral", "step_reasoner")
# And those with one window for all layers, which do not look at layer_types.
_UNIFORM = ("mistral",)

# What a rope type needs besides the factor; the values are Llama 3.1's. "yarn" has its paper's defaults inside.
_ROPE_TYPES: dict[str, dict[str, float]] = {
    "yarn": {},
    "linear": {},
    "dynamic": {},
    "llama3": {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
}
_OPTIONAL = {"yarn": {"attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"}}


def set_sliding_window(
    model_or_config: "PreTrainedModel | PretrainedConfig",
    window: int,
    layers: "str | int | float | Sequence[int | str]" = "shallow_half",
) -> None:
    """Let the chosen layers see only the last `window` tokens, the current one included; the others see everything.

    Attention of a sliding layer, and its cache, then cost `window` and not the length of the text. What is further
    back reaches later layers through the ones without a window. A model that was trained without windows has to be
    trained on.

    Args:
        model_or_config: Of a type whose code reads `layer_types`: Qwen2, Qwen3, SmolLM3, Ministral, StepReasoner (its
            encoder, where the window reaches to both sides). Mistral has one window for all layers.
        window: Tokens, at least 1.
        layers: `"shallow_half"`, `"all"`, a fraction of the layers from the bottom, or their numbers: every form of
            `parse_layers`.

    Raises:
        ValueError: if the type does not read `layer_types`, or layers or window do not fit.
    """
    model, config = _both(model_or_config)
    kind = config.model_type
    if kind not in (*_LAYERED, *_UNIFORM):
        raise ValueError(
            f"Sliding windows do not work with a {kind!r} model: its code does not read layer_types (or not "
            f"everywhere), so the window would be ignored. They work with {', '.join(_LAYERED)}; with "
            f"{', '.join(_UNIFORM)} on all layers."
        )
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise ValueError(f"sliding_window={window!r}: it must be a whole number of tokens, at least 1.")
    total = int(config.num_hidden_layers)
    count = int(getattr(config, "num_encoder_layers", total))  # StepReasoner: only the encoder can slide
    chosen = parse_layers(layers, count, option="sliding_window_layers")
    if kind in _UNIFORM:
        if len(chosen) < total:
            raise ValueError(
                f"A {kind!r} model has one window for all of its layers: set the layers to 'all', or convert it to a "
                "type that reads layer_types ('ministral' has the same weights)."
            )
    else:
        config.layer_types = ["sliding_attention" if i in chosen else "full_attention" for i in range(total)]
        if hasattr(config, "use_sliding_window"):
            config.use_sliding_window = True
    config.sliding_window = window
    if model is not None:
        _update_layers(model, config)


def _both(model_or_config: Any) -> tuple[Any, Any]:
    """The model (or `None`) and the config that its text part reads."""
    model = model_or_config if hasattr(model_or_config, "config") else None
    config = model_or_config.config if model is not None else model_or_config
    return model, config.get_text_config()


def _update_layers(model: Any, config: Any) -> None:
    """What attention modules and backbone have copied from the config when they were made."""
    for module in model.modules():
        index = getattr(module, "layer_idx", None)
        if isinstance(index, int) and hasattr(module, "sliding_window"):
            slides = config.layer_types[index] == "sliding_attention"
            module.sliding_window = config.sliding_window if slides else None
            if hasattr(module, "layer_type"):
                module.layer_type = config.layer_types[index]
        if hasattr(module, "has_sliding_layers"):
            module.has_sliding_layers = True


def set_rope_scaling(
    model_or_config: "PreTrainedModel | PretrainedConfig",
    factor: float,
    rope_type: str = "yarn",
    **fields: float | bool,
) -> None:
    """Stretch the rotary positions, so that a model reads texts `factor` times as long as it was trained on.

    `max_position_embeddings` becomes `factor` times the trained length; with `"dynamic"` it stays, because that
    type's formula reads it as the trained length. Set again, the factor counts from the trained length, not from the
    stretched one. For good results train on with long texts.

    Args:
        model_or_config: A model with plain rotary positions (`rope_parameters`), or its config.
        factor: At least 1.
        rope_type: `"yarn"` (Peng et al. 2023, arXiv 2309.00071), `"linear"` (Chen et al. 2023, arXiv 2306.15595),
            `"dynamic"` (NTK-aware, changes with the length of the text) or `"llama3"`.
        **fields: More of that type's fields, as in transformers' `rope_parameters` (yarn's `beta_fast`, ...).

    Raises:
        ValueError: if type, factor or a field do not exist, or the model has no rotary positions of this kind.
    """
    model, config = _both(model_or_config)
    before = dict(getattr(config, "rope_parameters", None) or {})
    if "rope_theta" not in before:
        raise ValueError(
            f"RoPE scaling does not work with a {config.model_type!r} model: it has no rotary positions, or one kind "
            "for each type of layer."
        )
    if before.get("rope_type", "default") not in ("default", *_ROPE_TYPES):
        raise ValueError(f"The model's positions are scaled already, by rope_type={before['rope_type']!r}.")
    if rope_type not in _ROPE_TYPES:
        raise ValueError(f"rope_type={rope_type!r} is not known here. Choose one of {', '.join(_ROPE_TYPES)}.")
    if isinstance(factor, bool) or not isinstance(factor, int | float) or factor < 1:
        raise ValueError(f"The factor of the RoPE scaling is {factor!r}; it must be a number of at least 1.")
    unknown = set(fields) - set(_ROPE_TYPES[rope_type]) - _OPTIONAL.get(rope_type, set())
    if unknown:
        raise ValueError(f"RoPE scaling of type {rope_type!r} has no field {', '.join(sorted(unknown))}.")
    trained = _trained_length(config, before)
    kept = {name: before[name] for name in ("rope_theta", "partial_rotary_factor") if name in before}
    scaled: dict[str, Any] = {**kept, "rope_type": rope_type, "factor": float(factor), **_ROPE_TYPES[rope_type]}
    if rope_type in ("yarn", "llama3"):
        scaled["original_max_position_embeddings"] = trained
    config.rope_parameters = {**scaled, **fields}
    config.max_position_embeddings = trained if rope_type == "dynamic" else int(trained * factor)
    if model is not None:
        _rebuild_rotary(model, config)


def _trained_length(config: Any, parameters: dict[str, Any]) -> int:
    """The length before any scaling."""
    known = parameters.get("original_max_position_embeddings")
    if known is None and parameters.get("rope_type") == "linear":
        known = round(config.max_position_embeddings / parameters["factor"])
    return int(known or config.max_position_embeddings)


def _rebuild_rotary(model: Any, config: Any) -> None:
    """Put new rotary embeddings in place of those made before: their frequencies are buffers."""
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if hasattr(child, "inv_freq") and hasattr(child, "attention_scaling")
    ]
    if not found:
        raise ValueError(
            f"No rotary embedding was found in the {config.model_type!r} model; scale its config instead."
        )
    for parent, name, child in found:
        # a buffer stays float32 whatever the weights are: only the device follows
        setattr(parent, name, type(child)(config=config).to(child.inv_freq.device))
