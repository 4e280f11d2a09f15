"""Filters: which traces are not fit to learn from, and why."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hf_reason.answers.verify import answers_match
from hf_reason.data.record import LANGUAGES, RawTrace, cjk_share, detect_language

# Characters of a window of `repetition`, and how far the next one starts.
_WINDOW = 1000
_STRIDE = 500
# A third of a thought is judged for its language only when it has this many characters.
_MIN_PART = 60
_CODE_BLOCK = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_CHAT_TOKEN = re.compile(
    r"<\|[A-Za-z_▁][\w▁ -]{0,40}\|>|<｜[^<>｜\n]{1,40}｜>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
)
_STRAY_TAG = re.compile(r"</?(?:think|thought|answer)>", re.IGNORECASE)


@dataclass(frozen=True)
class FilterConfig:
    """Thresholds of the filters. A trace is taken by the first filter (in the order of `FILTER_NAMES`) that it fails.

    Attributes:
        min_steps: A chain needs as many steps.
        max_repetition: Upper bound, in [0, 1], of `repetition` and of `repeated_steps`. Measured on real
            traces (R1, Marco-o1, GSM8K solutions; Chinese and English) the largest `repetition` is 0.50 and
            the median 0.05, while a window that is all loop scores above 0.9.
        min_chars: Least number of characters of the chain. The default keeps three short equations.
        max_chars: Most characters of chain and answer together. 60,000 is about what fits into 32k tokens.
        languages: Languages of the chain that stay, out of zh, en and mixed.
        min_cjk_share: Where the problem is Chinese, the least share of Chinese words (`cjk_share`) in the
            chain and in each third of it; code blocks do not count.
        skip: Names of filters that are switched off.

    Raises:
        ValueError: a value out of range, an unknown language or an unknown filter name.
    """

    min_steps: int = field(default=3, metadata={"help": "Least number of steps."})
    max_repetition: float = field(default=0.7, metadata={"help": "Most repetition, in [0, 1]."})
    min_chars: int = field(default=10, metadata={"help": "Least number of characters of the chain."})
    max_chars: int = field(default=60_000, metadata={"help": "Most characters of chain and answer together."})
    languages: tuple[str, ...] = field(default=LANGUAGES, metadata={"help": "Languages of the chain that stay."})
    min_cjk_share: float = field(
        default=0.4, metadata={"help": "Least share of Chinese in the chain where the problem is Chinese."}
    )
    skip: tuple[str, ...] = field(default=(), metadata={"help": "Names of filters that are switched off."})

    def __post_init__(self) -> None:
        for name in ("max_repetition", "min_cjk_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}.")
        if self.min_steps < 0 or not 0 <= self.min_chars <= self.max_chars:
            raise ValueError(
                "min_steps must not be negative and min_chars must lie between 0 and max_chars; got "
                f"min_steps={self.min_steps}, min_chars={self.min_chars}, max_chars={self.max_chars}."
            )
        # A YAML gives lists; tuples keep the config hashable.
        for name, known in (("languages", LANGUAGES), ("skip", FILTER_NAMES)):
            values = tuple(getattr(self, name))
            unknown = sorted(set(values) - set(known))
            if unknown:
                raise ValueError(f"{name}: {', '.join(unknown)} is unknown. Known are {', '.join(known)}.")
            object.__setattr__(self, name, values)


def repetition(text: str, n: int = 10) -> float:
    """How much of a text is said again: 1 - distinct / all character n-grams, in the worst window.

    The measure is rep-n of Welleck et al. 2020 (Neural Text Generation with Unlikelihood Training,
    section 3), on characters without white space, so that it needs no word boundaries. Distinct n-grams grow
    slower than a text does, so long honest texts would score higher than short ones; therefore it is
    taken over windows of 1,000 characters (every 500, and the last 1,000) and the largest counts.

    Args:
        text: Any text.
        n: Length of the n-grams; 10 characters are longer than the set phrases of both languages.

    Returns:
        A number in [0, 1]; 0 for a text of up to `n` characters.
    """
    text = "".join(text.split())
    if len(text) <= n:
        return 0.0
    last = max(0, len(text) - _WINDOW)
    worst = 0.0
    for start in {*range(0, last, _STRIDE), last}:
        window = text[start : start + _WINDOW]
        total = len(window) - n + 1
        distinct = len({window[at : at + n] for at in range(total)})
        worst = max(worst, 1 - distinct / total)
    return worst


def repeated_steps(steps: list[str]) -> float:
    """Share of the steps that were said before, white space aside, in [0, 1]: 1 - distinct / all."""
    if not steps:
        return 0.0
    return 1 - len({"".join(step.split()) for step in steps}) / len(steps)


def _drifts(trace: RawTrace, record: dict[str, Any], config: FilterConfig) -> bool:
    """A Chinese problem whose chain, or a third of it, is not in Chinese."""
    problem = record["context"] + record["task"]
    if not any("\u4e00" <= char <= "\u9fff" for char in problem) or detect_language(problem) != "zh":
        return False
    thought = _CODE_BLOCK.sub("", "\n".join(record["steps"]))
    third = len(thought) // 3
    parts = [thought]
    if third >= _MIN_PART:
        parts += [thought[:third], thought[third : 2 * third], thought[2 * third :]]
    return any(cjk_share(part) < config.min_cjk_share for part in parts)


def _repeats(trace: RawTrace, record: dict[str, Any], config: FilterConfig) -> bool:
    steps = record["steps"]
    return repeated_steps(steps) > config.max_repetition or repetition("\n".join(steps)) > config.max_repetition


def _chain_length(record: dict[str, Any]) -> int:
    return sum(map(len, record["steps"]))


def _has_control_tokens(trace: RawTrace, record: dict[str, Any], config: FilterConfig) -> bool:
    written = "\n".join((*record["steps"], record["answer"]))
    if _STRAY_TAG.search(written) or _CHAT_TOKEN.search(written):
        return True
    return bool(_CHAT_TOKEN.search(record["context"]) or _CHAT_TOKEN.search(record["task"]))


def _wrong(trace: RawTrace, record: dict[str, Any], config: FilterConfig) -> bool:
    return bool(trace.reference) and answers_match(record["answer"], str(trace.reference)) is False


_Filter = Callable[[RawTrace, dict[str, Any], FilterConfig], bool]
_FILTERS: dict[str, _Filter] = {
    "empty_context": lambda trace, record, config: not (record["context"] or record["task"]),
    "empty_thought": lambda trace, record, config: not record["steps"],
    "unclosed_thought": lambda trace, record, config: not trace.closed,
    "missing_answer": lambda trace, record, config: not record["answer"],
    "wrong_answer": _wrong,
    "few_steps": lambda trace, record, config: len(record["steps"]) < config.min_steps,
    "repetition": _repeats,
    "too_short": lambda trace, record, config: _chain_length(record) < config.min_chars,
    "too_long": lambda trace, record, config: _chain_length(record) + len(record["answer"]) > config.max_chars,
    "language": lambda trace, record, config: record["language"] not in config.languages,
    "language_drift": _drifts,
    "control_tokens": _has_control_tokens,
}
FILTER_NAMES = tuple(_FILTERS)


def judge(trace: RawTrace, record: dict[str, Any], config: FilterConfig) -> str | None:
    """The name of the first filter that takes a trace, or `None` if it stays.

    Args:
        trace: The trace as read; says whether the thought was closed and what the reference answer is.
        record: The record made of it.
        config: The thresholds.
    """
    for name, takes in _FILTERS.items():
        if name not in config.skip and takes(trace, record, config):
            return name
    return None
