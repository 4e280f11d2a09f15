"""Where LoAR hooks into a model: its attention modules, its projections, and where a row's prompt ends."""

import functools
import itertools
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

# Arguments of the model's forward: `(batch, time)` bool, where the prompt is; `(batch,)`, the row's task or -1.
PROMPT_MASK, TASKS = "loar_prompt_mask", "loar_tasks"
_COUNT = itertools.count()
# Types whose attention is what LoAR computes (read in transformers 5.23, each with a test): nothing is done to whole
# projections, no sinks, no chunks, no soft cap.
KINDS = (
    "ernie4_5",
    "granite",
    "llama",
    "ministral",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "seed_oss",
    "smollm3",
    "starcoder2",
)
_WORKS = f"It works with {', '.join(KINDS)}."
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


def wrap(model: Any, name: str, around: Callable[..., Any]) -> Callable[[], None]:
    """Put `around(model, original, *args, **kwargs)` in place of a method of this object; returns an undo function.

    A method and not a hook: PEFT calls the forward of the model that it wraps, past its hooks. The original is kept
    on the model under a name of its own: if the wrapper kept it, a deep copy would call the first model's. When
    another wrapper has been put around ours since, the undo function leaves ours inside, which then only calls it.
    """
    key = f"_{name}_before_loar_{next(_COUNT)}"
    original = getattr(model, name)
    own = model.__dict__.get(name)

    @functools.wraps(getattr(original, "__func__", original))
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return around(self, vars(self)[key], *args, **kwargs)

    vars(model)[key] = original
    vars(model)[name] = MethodType(method, model)
    return functools.partial(_unwrap, model, name, key, vars(model)[name], own)


def _unwrap(model: Any, name: str, key: str, ours: Any, own: Any) -> None:
    if model.__dict__.get(name) is ours:
        del vars(model)[name], vars(model)[key]
        if own is not None:
            vars(model)[name] = own


def forward_with_prompts(model: Any, original: Any, *args: Any, **kwargs: Any) -> Any:
    """The model's forward, which tells from the labels where the prompt ends."""
    labels = kwargs.get("labels")
    if labels is not None and kwargs.get(PROMPT_MASK) is None and hasattr(model, "loar"):
        kwargs[PROMPT_MASK] = before_first_label(labels)
    return original(*args, **kwargs)


def generate_from_prompt(model: Any, original: Any, *args: Any, **kwargs: Any) -> Any:
    """The model's generate, which tells how long the prompt is: assisted decoding reads guesses in the same pass."""
    loar = getattr(model, "loar", None)
    given = next(
        (x for x in (*args[:1], *map(kwargs.get, ("inputs", "input_ids", "inputs_embeds"))) if x is not None), None
    )
    if loar is None or given is None:
        return original(*args, **kwargs)
    settings = kwargs.get("generation_config") or model.generation_config
    lookup = kwargs.get("prompt_lookup_num_tokens", getattr(settings, "prompt_lookup_num_tokens", None))
    if (kwargs.get("assistant_model") is not None or lookup) and any(a.loar.window for a in loar._layers):
        raise ValueError(
            "Assisted decoding removes guesses from the cache, and a window layer of LoAR keeps no more than its "
            "window. Generate without assistant_model and prompt_lookup_num_tokens."
        )
    before, loar.prompt_length = loar.prompt_length, int(given.shape[1]) + _virtual_tokens(model)
    try:
        return original(*args, **kwargs)
    finally:
        loar.prompt_length = before


def _virtual_tokens(model: Any) -> int:
    """Tokens that PEFT's prompt tuning puts in front of the prompt; it hooks itself in while its model generates."""
    owner = getattr(vars(model).get("prepare_inputs_for_generation"), "__self__", None)
    config: Any = getattr(owner, "active_peft_config", None)
    return int(config.num_virtual_tokens) if getattr(config, "is_prompt_learning", False) else 0


def before_first_label(labels: torch.Tensor) -> torch.Tensor:
    """`(batch, time)`: true before a row's first label that is not -100."""
    return (labels != -100).cumsum(dim=1) == 0


def sliced_forward(name: str) -> Any:
    def forward(self: nn.Linear, states: torch.Tensor) -> torch.Tensor:
        rows = vars(self)["rows"]
        weight, bias = (self.weight, self.bias) if rows is None else rows
        return linear(states, weight, bias)

    return forward


def rows_of(
    modules: dict[str, nn.Linear], groups: torch.Tensor, size: int, width: int, heads: torch.Tensor | None = None
) -> dict[str, Any]:
    """Weights and biases of the working groups, or of the working heads and the groups that they read.

    Args:
        modules: The projections by name.
        groups: `(g,)`.
        size: Query heads of a group.
        width: Of a head.
        heads: `(k,)`; `None`: all heads of the groups.
    """

    def places(units: torch.Tensor, unit: int) -> torch.Tensor:
        return (units[:, None] * unit + torch.arange(unit, device=units.device)).flatten()

    found: dict[str, Any] = {}
    narrow = places(groups, width)
    wide = places(groups, size * width) if heads is None else places(heads, width)
    for name, module in modules.items():
        index = narrow if name in ("k_proj", "v_proj") else wide
        if name == "o_proj":
            found[name] = (module.weight[:, index], module.bias)
        else:
            found[name] = (module.weight[index], None if module.bias is None else module.bias[index])
    return found


def before_end(ids: torch.Tensor | None, end: list[int]) -> torch.Tensor | None:
    """Up to the last place where the end of a prompt stands, the end included; `None` if it is not known.

    The last, because earlier ones close the earlier turns of a conversation. A row without it is all prompt.
    """
    if ids is None or not end or ids.shape[1] < len(end):
        return None
    marks = torch.tensor(end, device=ids.device)
    found = (ids.unfold(1, len(end), 1) == marks).all(dim=-1)
    places = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape[0], -1)
    last = found.shape[1] - 1 - found.flip(1).float().argmax(dim=1, keepdim=True) + len(end)
    return (places < last) | ~found.any(dim=1, keepdim=True)


def attentions(model: Any, layers: Sequence[nn.Module]) -> list[Any]:
    """The attention modules, checked: LoAR knows separate projections of query, key, value and output heads."""
    found: list[Any] = []
    text = model.config.get_text_config()
    name = type(model).__name__
    if model.config.is_encoder_decoder or text.model_type == "step_reasoner":
        raise ValueError(f"LoAR is for decoder-only models of one stack, which {name} is not.")
    for number, layer in enumerate(layers):
        attention: Any = getattr(layer, "self_attn", None)
        missing = [part for part in (*PROJECTIONS, "num_key_value_groups", "head_dim") if not hasattr(attention, part)]
        if attention is None:
            raise ValueError(
                f"LoAR cannot route {name}: layer {number} of a {text.model_type!r} model has no self_attn with "
                f"projections of its own for query, key, value and output. {_WORKS}"
            )
        if missing:
            raise ValueError(
                f"LoAR cannot route {name}: the attention of layer {number} ({type(attention).__name__}) has no "
                f"{', '.join(missing)} (multi-head latent attention, for instance, has one projection for "
                f"several). {_WORKS}"
            )
        found.append(attention)
    if text.model_type not in KINDS:
        raise ValueError(
            f"LoAR cannot route {name}: it has not been checked that it computes the attention of a "
            f"{text.model_type!r} model exactly. {_WORKS}"
        )
    return found


def native_window(attention: Any, config: Any, layer: int) -> int | None:
    """The window that the model itself gives a layer, in tokens."""
    if hasattr(attention, "sliding_window"):
        return attention.sliding_window  # type: ignore[no-any-return]
    types, window = getattr(config, "layer_types", None), getattr(config, "sliding_window", None)
    return window if types is None or types[layer] == "sliding_attention" else None
