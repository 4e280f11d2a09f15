"""Arguments of a training recipe for longer contexts."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hf_reason._options import parsed_option

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class LongContextArguments:
    """Sliding windows and scaled positions of the model that is trained."""

    sliding_window: int | None = field(
        default=None, metadata={"help": "Tokens that the sliding layers see. Unset: the model's own attention."}
    )
    sliding_window_layers: list[str] = field(
        default_factory=lambda: ["shallow_half"],
        metadata={"help": "shallow_half, all, a share of the layers from the bottom (0.5), or their numbers (0 1 2)."},
    )
    rope_scaling: dict[str, Any] | str | None = field(
        default=None, metadata={"help": 'Stretch the positions, JSON: {"factor": 4, "rope_type": "yarn"}.'}
    )

    def __post_init__(self) -> None:
        self.rope_scaling = parsed_option("rope_scaling", self.rope_scaling)
        if self.rope_scaling is not None and "factor" not in self.rope_scaling:
            raise ValueError('rope_scaling lacks the factor: {"factor": 4, "rope_type": "yarn"}.')
        self._layers()

    def _layers(self) -> Any:
        # a YAML may give one value, of any type
        given: Any = self.sliding_window_layers
        words = [str(word) for word in (given if isinstance(given, list) else [given])]
        if len(words) == 1 and not words[0].isdigit():
            try:
                return float(words[0])
            except ValueError:
                return words[0]
        if all(word.isdigit() for word in words):
            return [int(word) for word in words]
        raise ValueError(
            f"sliding_window_layers={words}: give shallow_half, all, a share with a decimal point, or layer numbers."
        )

    def apply(self, model: "PreTrainedModel") -> None:
        """Change the model as the arguments say; see `hf_reason.models.set_sliding_window` and `set_rope_scaling`."""
        from hf_reason.models import set_rope_scaling, set_sliding_window

        if self.sliding_window is not None:
            set_sliding_window(model, self.sliding_window, self._layers())
        if isinstance(self.rope_scaling, dict):
            set_rope_scaling(model, **self.rope_scaling)
