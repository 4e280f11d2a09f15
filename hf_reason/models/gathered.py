"""A model that ZeRO-3 has cut, whole for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def gathered(model: Any) -> Iterator[None]:
    """Inside, every process has all weights of a model that ZeRO-3 has cut; what changes them is lost at the end.

    For what runs the model before the training has put DeepSpeed's engine around it. All processes enter together;
    other models stay as they are.
    """
    cut = [parameter for parameter in model.parameters() if hasattr(parameter, "ds_numel")]
    if not cut:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(cut):
        yield
