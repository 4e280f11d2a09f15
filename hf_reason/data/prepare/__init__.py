"""The preparation as a run: settings, worker processes, checkpoint, output files and report."""

from typing import Any


def prepare(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Prepare raw traces for training; see `hf_reason.data.prepare.pipeline.prepare`."""
    from .pipeline import prepare

    return prepare(*args, **kwargs)
