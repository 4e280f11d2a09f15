"""Filters: which traces are not fit to train on, and why."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from hf_reason._options import option
from hf_reason._renamed import renamed
from hf_reason.answers.verify import answers_match
from hf_reason.data.languages import LANGUAGES, has_words
from hf_reason.data.read.stray_tags import has_stray_tag
from hf_reason.data.record import RawTrace, Record

from .answer_ends import ends_in_the_middle, prose_of, runs_in_a_loop
from .language_drift import drifts

# Characters in a window of `repetition`, and the distance between the starts of two windows.
_WINDOW = 1000
_STRIDE = 500
_CHAT_TOKEN = re.compile(
    r"<\|[A-Za-z_▁][\w▁ -]{0,40}\|>|<｜[^<>｜\n]{1,40}｜>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
)
# A shorter answer is not checked for repetition.
_LONG_ANSWER = 100
FILTER_NAMES = (
    *("empty_context", "empty_thought", "unclosed_thought", "truncated", "missing_answer", "wrong_answer"),
    *("few_steps", "repetition", "too_short", "too_long", "language", "language_drift", "control_tokens"),
)


@renamed(min_cjk_share="min_cjk_ratio")
@dataclass(frozen=True)
class FilterConfig:
    """Thresholds of the filters. A trace is dropped by the first filter that it fails, in the order of `FILTER_NAMES`.

    Attributes:
        min_steps: Minimum number of steps in a chain.
        max_repetition: Upper bound, in [0, 1], of `repetition` (of the chain and of a long answer) and of
            `repeated_steps`; at 1 nothing is checked. Measured on real
            traces (R1, Marco-o1, GSM8K solutions; Chinese and English) the largest `repetition` is 0.50 and
            the median 0.05, while a window that is all loop scores above 0.9.
        min_chars: Minimum number of characters in the chain. The default keeps three short equations.
        max_chars: Maximum number of characters in chain and answer together. 60,000 is about what fits into
            32k tokens.
        languages: Languages of the chain that are kept: zh, en, mixed, other (see `hf_reason.data.languages`).
        min_cjk_ratio: For a Chinese problem, the minimum fraction of Chinese words (`cjk_ratio`) in the
            chain, in each third of it and in an answer of prose; code does not count.
        skip: Names of filters that are switched off.

    Raises:
        ValueError: a value out of range, an unknown language or an unknown filter name.
    """

    min_steps: int = option(3, "Minimum number of steps in a chain.", card=False)
    max_repetition: float = option(0.7, "Maximum repetition in a chain, in [0, 1].", card=False)
    min_chars: int = option(10, "Minimum number of characters in a chain.", card=False)
    max_chars: int = option(60_000, "Maximum number of characters in chain and answer together.", card=False)
    languages: tuple[str, ...] = option(
        LANGUAGES, "Languages of the chain that are kept.", choices=LANGUAGES, card=False
    )
    min_cjk_ratio: float = option(
        0.4, "Minimum fraction of Chinese words in the chain of a Chinese problem, in [0, 1].", card=False
    )
    skip: tuple[str, ...] = option((), "Filters to switch off.", choices=FILTER_NAMES, card=False)

    def __post_init__(self) -> None:
        for name in ("max_repetition", "min_cjk_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}.")
        if self.min_steps < 0 or not 0 <= self.min_chars <= self.max_chars:
            raise ValueError(
                "min_steps must not be negative and min_chars must be between 0 and max_chars; got "
                f"min_steps={self.min_steps}, min_chars={self.min_chars}, max_chars={self.max_chars}."
            )
        # A YAML gives lists; tuples keep the config hashable.
        for name, known in (("languages", LANGUAGES), ("skip", FILTER_NAMES)):
            values = tuple(getattr(self, name))
            unknown = sorted(set(values) - set(known))
            if unknown:
                raise ValueError(f"{name}: {', '.join(unknown)} is unknown. Choose from {', '.join(known)}.")
            object.__setattr__(self, name, values)


def repetition(text: str, n: int = 10) -> float:
    """How much of a text repeats: 1 - distinct / all character n-grams, in the worst window.

    The measure is rep-n of Welleck et al. 2020 (Neural Text Generation with Unlikelihood Training,
    section 3), on characters without white space, so that it needs no word boundaries. Distinct n-grams grow
    more slowly than a text does, so a long text would score higher than a short one; therefore it is
    computed over windows of 1,000 characters (every 500, and the last 1,000), and the largest value counts.

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
    """Fraction of the steps that repeat an earlier one, ignoring white space, in [0, 1]: 1 - distinct / all."""
    if not steps:
        return 0.0
    return 1 - len({"".join(step.split()) for step in steps}) / len(steps)


def _in_another_language(trace: RawTrace, record: Record, config: FilterConfig) -> bool:
    # A record of numbers and formulas alone is in no language.
    return record["language"] not in config.languages and has_words("\n".join(_texts(record)))


def _texts(record: Record) -> tuple[str, ...]:
    return record["context"], record["task"], *record["steps"], record["answer"]


def _repeats(trace: RawTrace, record: Record, config: FilterConfig) -> bool:
    steps = record["steps"]
    if repeated_steps(steps) > config.max_repetition or repetition("\n".join(steps)) > config.max_repetition:
        return True
    answer = record["answer"]
    if len(answer) < _LONG_ANSWER or config.max_repetition == 1:
        return False
    return runs_in_a_loop(answer) or repetition(prose_of(answer)) > config.max_repetition


def _chain_length(record: Record) -> int:
    return sum(map(len, record["steps"]))


def _has_control_tokens(trace: RawTrace, record: Record, config: FilterConfig) -> bool:
    written = "\n".join((*record["steps"], record["answer"]))
    if has_stray_tag(written) or _CHAT_TOKEN.search(written):
        return True
    return bool(_CHAT_TOKEN.search(record["context"]) or _CHAT_TOKEN.search(record["task"]))


def _wrong(trace: RawTrace, record: Record, config: FilterConfig) -> bool:
    return bool(trace.reference) and answers_match(record["answer"], str(trace.reference)) is False


# Each says whether a trace fails it; the keys are `FILTER_NAMES`, in the order in which they are tried.
_FILTERS: dict[str, Callable[[RawTrace, Record, FilterConfig], bool]] = {
    "empty_context": lambda trace, record, config: not (record["context"] or record["task"]),
    "empty_thought": lambda trace, record, config: not record["steps"],
    "unclosed_thought": lambda trace, record, config: not trace.closed,
    "truncated": lambda trace, record, config: trace.truncated or ends_in_the_middle(record["answer"]),
    "missing_answer": lambda trace, record, config: not record["answer"],
    "wrong_answer": _wrong,
    "few_steps": lambda trace, record, config: len(record["steps"]) < config.min_steps,
    "repetition": _repeats,
    "too_short": lambda trace, record, config: _chain_length(record) < config.min_chars,
    "too_long": lambda trace, record, config: _chain_length(record) + len(record["answer"]) > config.max_chars,
    "language": _in_another_language,
    "language_drift": lambda trace, record, config: drifts(record, config.min_cjk_ratio),
    "control_tokens": _has_control_tokens,
}
assert tuple(_FILTERS) == FILTER_NAMES


def failed_filter(trace: RawTrace, record: Record, config: FilterConfig) -> str | None:
    """The name of the first filter that a trace fails, or `None` if it passes all.

    Args:
        trace: The trace as read; says whether the thought was closed and what the reference answer is.
        record: The record made of it.
        config: The thresholds.
    """
    for name, fails in _FILTERS.items():
        if name not in config.skip and fails(trace, record, config):
            return name
    return None
