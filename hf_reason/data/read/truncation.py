"""What sources say about a generation that was cut: flags of rows, of messages, and of several generations."""

from collections.abc import Mapping
from typing import Any

_REASONS = ("finish_reason", "finish_reasons", "stop_reason", "stop_reasons", "done_reason", "finishReason")
_COMPLETE = ("is_reasoning_complete", "is_complete", "is_finished", "reasoning_complete")
_CUT = ("truncated", "is_truncated", "was_truncated")
_NAMES = frozenset((*_REASONS, *_COMPLETE, *_CUT))
_CUT_REASONS = frozenset(
    (
        *("length", "max_tokens", "max_length", "max_new_tokens", "max_output_tokens", "max_completion_tokens"),
        *("model_length", "context_length", "model_context_window_exceeded", "token_limit", "truncated"),
        "incomplete",
    )
)


def cut_by_reason(reason: object) -> bool:
    """Whether a finish reason says that the text ends in the middle."""
    return isinstance(reason, str) and reason.strip().lower() in _CUT_REASONS


def is_truncated(row: Mapping[str, Any]) -> bool:
    """Whether a row or a message says that it was cut; a list says so when each of its items does."""
    for name in _NAMES & row.keys():
        value = row.get(name)
        flags = value if isinstance(value, list) else [value]
        if name in _REASONS:
            cut = [cut_by_reason(flag) for flag in flags]
        else:
            cut = [str(flag).strip().lower() == str(name in _CUT).lower() for flag in flags]  # a CSV has them as text
        if cut and all(cut):
            return True
    return False
