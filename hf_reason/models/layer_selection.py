"""The layers of a model that may reason: a StepReasoner's reasoner, or the one stack of a decoder-only model."""

import re
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

    def linear_names(self) -> list[str]:
        """Names of the linear modules inside a layer, as PEFT's `target_modules` wants them."""
        return sorted(
            {
                name.rsplit(".", 1)[-1]
                for layer in self.layers
                for name, module in layer.named_modules()
                if isinstance(module, nn.Linear)
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
    found = [
        LayerStack(name, list(module))
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == length and name.endswith(wanted)
    ]
    if not found or length == 0:
        what = "has no reasoner layers" if wanted else f"has no list of {length} layers"
        raise ValueError(f"{type(model).__name__} {what}, so there is nothing to choose from.")
    return min(found, key=lambda stack: stack.name.count("."))  # experts and the like lie deeper


def parse_layers(text: str, stack: LayerStack) -> list[int]:
    """The layers that a text names: a range `8-15`, numbers `0,3,5`, names `model.layers.3`, or a mixture of them.

    Raises:
        ValueError: for a layer that does not exist, or a text that names none.
    """
    count, chosen = len(stack.layers), set()
    for part in (piece.strip() for piece in text.split(",") if piece.strip()):
        numbers = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        name = re.fullmatch(rf"{re.escape(stack.name)}\.(\d+)", part)
        if name:
            first = last = int(name.group(1))
        elif numbers:
            first = int(numbers.group(1))
            last = int(numbers.group(2) or first)
        else:
            first, last = 0, count  # no layer's name
        if not 0 <= first <= last < count:
            raise ValueError(
                f"reasoner_layers: there is no layer {part!r}. The model has {stack.name}.0 to {stack.name}."
                f"{count - 1}; give a range (0-{count - 1}), numbers (0,1), names, or 'auto'."
            )
        chosen |= set(range(first, last + 1))
    if not chosen:
        raise ValueError(f"reasoner_layers={text!r} names no layer. Give a range, numbers, names, or 'auto'.")
    return sorted(chosen)
