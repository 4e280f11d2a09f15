"""A model that is trained for longer contexts than it was made for."""

from typing import TYPE_CHECKING

from hf_reason.cli.arguments import LongContextArguments

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def apply_long_context(arguments: LongContextArguments, model: "PreTrainedModel") -> None:
    """Change the model as the arguments say; see `hf_reason.models.set_sliding_window` and `set_rope_scaling`."""
    from hf_reason.models import set_rope_scaling, set_sliding_window

    if arguments.sliding_window is not None:
        set_sliding_window(model, arguments.sliding_window, arguments.sliding_window_layers)
    if isinstance(arguments.rope_scaling, dict):
        set_rope_scaling(model, **arguments.rope_scaling)
