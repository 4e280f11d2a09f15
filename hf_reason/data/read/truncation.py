"""What sources say about a generation that was cut: flags of rows, of messages, and of several generations."""

import re
from collections.abc import Mapping
from typing import Any

from hf_reason.answers.traditional import simplified

_REASONS = ("finish_reason", "finish_reasons", "stop_reason", "stop_reasons", "done_reason", "finishReason")
_COMPLETE = ("is_reasoning_complete", "is_complete", "is_finished", "reasoning_complete", "completed", "是否完整")
_CUT = ("truncated", "is_truncated", "was_truncated", "是否截断", "被截断", "截断")
_YES_NO = {"是": "true", "否": "false", "yes": "true", "no": "false", "1": "true", "0": "false"}
# Objects beside a text that may hold the reason.
_HOLDERS = ("metadata", "meta", "info", "generation_info", "response_metadata", "extra_info")
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
    # an enum's text has its class in front: FinishReason.MAX_TOKENS
    return isinstance(reason, str) and re.split(r"[.:]", reason.strip().lower())[-1].strip() in _CUT_REASONS


def generations_cut(row: Mapping[str, Any], count: int) -> list[bool]:
    """For each of several generations whether the row says that it was cut; a single reason is that of all."""
    cut = [False] * count
    for name in _REASONS:
        value = row.get(name)
        reasons = value if isinstance(value, list) else [value] * count
        cut = [was or cut_by_reason(reason) for was, reason in zip(cut, [*reasons, *[None] * count], strict=False)]
    return cut


def is_truncated(row: Mapping[str, Any]) -> bool:
    """Whether a row or a message says that it was cut; a list says so when each of its items does."""
    written = {n if n.isascii() else simplified(n): n for n in row if isinstance(n, str)}
    for name in _NAMES & written.keys():
        value = row.get(written[name])
        flags = value if isinstance(value, list) else [value]
        if name in _REASONS:
            cut = [cut_by_reason(flag) for flag in flags]
        else:
            cut = [_said(flag) == str(name in _CUT).lower() for flag in flags]
        if cut and all(cut):
            return True
    return any(isinstance(row.get(name), Mapping) and is_truncated(row[name]) for name in _HOLDERS)


def _said(flag: object) -> str:
    text = str(flag).strip().lower()  # a CSV has them as text
    return _YES_NO.get(text, text)
