"""Which layers: the one parser of every option that names layers, and the stack of layers that may reason."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class LayerStack:
    """A stack of layers.

    Attributes:
        name: Full name of its module list, such as `model.layers`.
        layers: The layers.
    """

    name: str
    layers: list[nn.Module]

    @property
    def pattern(self) -> str:
        """What PEFT calls `layers_pattern`: the last part of the name."""
        return self.name.rsplit(".", 1)[-1]

    @property
    def names(self) -> list[str]:
        """Full names of the layers, such as `model.layers.0`."""
        return [f"{self.name}.{number}" for number in range(len(self.layers))]

    @property
    def elsewhere(self) -> str:
        """The pattern of all modules outside the stack, for PEFT's `exclude_modules`.

        Other stacks of the model (a vision tower, draft layers) have layers of the same numbers, and modules of the
        same names in them.
        """
        return rf"(?!{re.escape(self.name)}\.).*"

    def linear_names(self) -> list[str]:
        """Names of the linear modules inside a layer, as PEFT's `target_modules` wants them."""
        from transformers.pytorch_utils import Conv1D  # GPT-2's

        return sorted(
            {
                name.rsplit(".", 1)[-1]
                for layer in self.layers
                for name, module in layer.named_modules()
                if isinstance(module, nn.Linear | Conv1D)
            }
        )


def reasoning_stack(model: Any) -> LayerStack:
    """The stack that LoRA on the reasoner may choose layers from.

    Args:
        model: A causal language model, not wrapped.

    Raises:
        ValueError: if the model has no list of layers of the length that its config says.
    """
    config = model.config.get_text_config()
    if config.model_type == "step_reasoner":
        wanted, length = "reasoner", config.num_reasoner_layers
    else:
        wanted, length = "", getattr(config, "num_hidden_layers", 0)
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    text = next((f"{name}." for name, module in model.named_modules() if name and module is decoder), "")
    found = [
        LayerStack(name, list(module))
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == length and name.endswith(wanted)
    ]
    if not found or length == 0:
        what = "has no reasoner layers" if wanted else f"has no list of {length} layers"
        raise ValueError(f"{type(model).__name__} {what}, so there is nothing to choose from.")
    # a vision tower may have as many layers; lists of experts are deeper in the model
    return min(found, key=lambda stack: (not stack.name.startswith(text), stack.name.count(".")))


def parse_layers(
    spec: str | int | float | Sequence[int | str], num_layers: int, names: Sequence[str] = (), option: str = "layers"
) -> list[int]:
    """The layers that a setting names, ascending. Every option that names layers is parsed here.

    Args:
        spec: `"all"`; `"shallow_half"` (the first half; of an odd number, the smaller one); a fraction of the layers
            from the bottom, with a decimal point (`0.5` or `"0.5"`; rounded, at least one layer); a range `"8-15"`;
            numbers `"0,3,5"` or `"0 3 5"`; names `"model.layers.3"`; or a list of any of these.
        num_layers: Number of layers.
        names: Their full names, for a `spec` with names.
        option: Name of the setting, for messages.

    Raises:
        ValueError: if the setting is of no such form, names a layer that does not exist, or names none.
    """
    parts: list[Any] = []
    for item in spec if isinstance(spec, Sequence) and not isinstance(spec, str) else [spec]:
        parts += [word for word in re.split(r"[,\s]+", item) if word] if isinstance(item, str) else [item]
    chosen = {layer for part in parts for layer in _layers_of(part, num_layers, list(names), option)}
    if not chosen:
        raise ValueError(f"{option}={spec!r} names no layer. {_forms(num_layers)}")
    return sorted(chosen)


def _layers_of(part: Any, count: int, names: list[str], option: str) -> Sequence[int]:
    text = str(part)
    if text == "all":
        return range(count)
    if text == "shallow_half":
        return range(max(count // 2, 1))
    if text in names:
        return [names.index(text)]
    numbers = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if numbers and not isinstance(part, bool):
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        if first <= last < count:
            return range(first, last + 1)
        raise ValueError(
            f"{option}: there is no layer {text!r}: the layers are 0 to {count - 1}"
            f"{f' ({names[0]} to {names[-1]})' if names else ''}."
        )
    if re.fullmatch(r"\d*\.\d*", text) and text != "." and 0 < float(text) <= 1:
        return range(max(round(float(text) * count), 1))
    raise ValueError(f"{option}={part!r} does not name layers. {_forms(count)}")


def _forms(count: int) -> str:
    return (
        f"Give a range ('0-{count - 1}'), numbers ('0,{count - 1}'), a fraction of the layers from the bottom (0.5), "
        "'shallow_half' or 'all'."
    )
