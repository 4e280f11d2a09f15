"""How LoAR takes hold of a model: its attention modules, its projections, and where a row's prompt ends."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

# Arguments of the model's forward: `(batch, time)` bool, where the prompt is; `(batch,)`, the row's task or -1.
PROMPT_MASK, TASKS = "loar_prompt_mask", "loar_tasks"
# Where a routed model keeps the forward it had.
FORWARD_BEFORE = "_forward_before_loar"
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


def forward_with_prompts(original: Any) -> Any:
    """The model's forward, which tells from the labels where the prompt ends.

    A method and not a hook: PEFT calls the forward of the model that it wraps, past its hooks. It asks the model for
    the forward that it replaces: one that it remembered itself would be the original's in a deep copy of the model.
    """

    @functools.wraps(getattr(original, "__func__", original))
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        labels = kwargs.get("labels")
        if labels is not None and kwargs.get(PROMPT_MASK) is None and hasattr(self, "loar"):
            kwargs[PROMPT_MASK] = before_first_label(labels)
        return vars(self)[FORWARD_BEFORE](*args, **kwargs)

    return forward


def before_first_label(labels: torch.Tensor) -> torch.Tensor:
    """`(batch, time)`: true before a row's first label that is not -100."""
    return (labels != -100).cumsum(dim=1) == 0


def sliced_forward(name: str) -> Any:
    def forward(self: nn.Linear, states: torch.Tensor) -> torch.Tensor:
        rows = self.__dict__.get("rows")
        weight, bias = (self.weight, self.bias) if rows is None else rows
        return linear(states, weight, bias)

    return forward


def rows_of(modules: dict[str, nn.Linear], groups: torch.Tensor, size: int, width: int) -> dict[str, Any]:
    """Weights and biases of the working groups."""

    def places(heads: int) -> torch.Tensor:
        unit = heads * width
        return (groups[:, None] * unit + torch.arange(unit, device=groups.device)).flatten()

    found: dict[str, Any] = {}
    for name, module in modules.items():
        index = places(1 if name in ("k_proj", "v_proj") else size)
        if name == "o_proj":
            found[name] = (module.weight[:, index], module.bias)
        else:
            found[name] = (module.weight[index], None if module.bias is None else module.bias[index])
    return found


def before_end(ids: torch.Tensor | None, end: list[int]) -> torch.Tensor | None:
    """Up to the first place where the end of a prompt stands, the end included; `None` if it is not known.

    A row without it is all prompt.
    """
    if ids is None or not end or ids.shape[1] < len(end):
        return None
    marks = torch.tensor(end, device=ids.device)
    found = (ids.unfold(1, len(end), 1) == marks).all(dim=-1)
    places = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape[0], -1)
    first = found.float().argmax(dim=1, keepdim=True) + len(end)
    return (places < first) | ~found.any(dim=1, keepdim=True)


def attentions(model: Any, layers: Sequence[nn.Module]) -> list[Any]:
    """The attention modules, checked: LoAR knows separate projections of query, key, value and output heads."""
    found: list[Any] = []
    text = model.config.get_text_config()
    name = type(model).__name__
    if model.config.is_encoder_decoder or text.model_type == "step_reasoner":
        raise ValueError(f"LoAR is for decoder-only models of one stack; {name} is none.")
    if not getattr(model, "_supports_attention_backend", False):
        raise ValueError(f"{name} does not call transformers' attention interface, which LoAR needs.")
    for number, layer in enumerate(layers):
        attention: Any = getattr(layer, "self_attn", None)
        missing = [part for part in (*PROJECTIONS, "num_key_value_groups", "head_dim") if not hasattr(attention, part)]
        if missing:
            raise ValueError(
                f"LoAR cannot route {name}: the attention of layer {number} ({type(attention).__name__}) has no "
                f"{', '.join(missing)} (multi-head latent attention and the like share one projection). It works with "
                "Qwen2, Qwen3, Llama and Mistral shaped models."
            )
        found.append(attention)
    return found
