"""Checkpoints whose weights have other names in the file than in the model.

transformers saves models with vision under the names that they were published with, and renames them when it loads
them. Its `Trainer` does not when it resumes or takes the best checkpoint: it warns, and goes on with the weights that
it has.
"""

import os
from typing import Any

from .quantized_loading import weight_names


def restore_renamed(folder: str | os.PathLike[str], model: Any) -> bool:
    """Load the weights of a checkpoint whose names are not the model's own, as `from_pretrained` reads them.

    Args:
        folder: The checkpoint.
        model: A whole model, which is not sharded and has no adapter; changed in place.

    Returns:
        Whether there was something to rename; if not, nothing was loaded.
    """
    if hasattr(model, "peft_config") or getattr(model, "is_quantized", False):
        return False
    own = model.state_dict()
    names = weight_names(folder, "model*.safetensors")  # not those of adapters and of a LoAR
    if not names or set(names) <= own.keys():
        return False
    loaded = type(model).from_pretrained(folder, dtype=model.dtype)
    missing, _ = model.load_state_dict(loaded.state_dict(), strict=False)
    if lost := [name for name in missing if not name.startswith("loar.")]:  # which has a file of its own
        raise ValueError(f"{os.path.basename(folder)} has no weights for {', '.join(lost[:3])}. Copy it again.")
    return True
