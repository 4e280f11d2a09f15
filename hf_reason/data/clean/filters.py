"""Filters: which traces are not fit to train on, and why."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hf_reason._options import option
from hf_reason._renamed import renamed
from hf_reason.answers.verify import answers_match
from hf_reason.data.languages import LANGUAGES, has_words
from hf_reason.data.read.other_tags import unknown_tag
from hf_reason.data.read.stray_tags import has_stray_tag
from hf_reason.data.record import RawTrace, Record

from .answer_ends import ends_in_the_middle, prose_of, runs_in_a_loop
from .language_drift import drifts
from .ngrams import code_points, ngram_hashes

# Characters in a window of `repetition`, and the distance between the starts of two windows.
_WINDOW = 1000
_STRIDE = 500
_CHAT_TOKEN = re.compile(
    r"<\|[A-Za-z_▁][\w▁ -]{0,40}\|>|<｜[^<>｜\n]{1,40}｜>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
)
# They judge the chain, which an example of the mode without thinking does not have.
_OF_CHAINS = ("empty_thought", "few_steps", "too_short")
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
        keep_non_thinking: Keep records without a chain, as examples of a hybrid model's mode without thinking: the
            filters of chains do not hold for them. An answer that begins with tags that may enclose a thought is no
            such record.
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
    keep_non_thinking: bool = option(
        False, "Keep records without a chain, for a hybrid model's mode without thinking.", card=False
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
    hashes = _hashes(text, n)
    return 0.0 if hashes is None else _repetition(hashes, n)


def _repetition(hashes: np.ndarray, n: int) -> float:
    # Where the same n-gram stood before, or -1: it repeats in all windows that begin at or before that place.
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    again = np.flatnonzero(ordered[1:] == ordered[:-1])
    before = np.full(len(hashes), -1)
    before[order[again + 1]] = order[again]
    size = _WINDOW - n + 1
    last = max(0, len(hashes) - size)
    windows = ((start, before[start : start + size]) for start in {*range(0, last, _STRIDE), last})
    return max(float(np.count_nonzero(window >= start)) / len(window) for start, window in windows)


def _hashes(text: str, n: int) -> np.ndarray | None:
    """The hashes of the n-grams of a text without its white space; `None` for a text of up to `n` characters."""
    codes = code_points("".join(text.split()))
    return ngram_hashes(codes, n) if len(codes) > n else None


def _repeats_much(text: str, limit: float, n: int = 10) -> bool:
    """Whether `repetition` is above a limit. All repeats of most texts would not fill a window up to it."""
    hashes = _hashes(text, n)
    if hashes is None:
        return False
    ordered = np.sort(hashes)
    if np.count_nonzero(ordered[1:] == ordered[:-1]) <= limit * min(len(hashes), _WINDOW - n + 1):
        return False
    return _repetition(hashes, n) > limit


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
    if repeated_steps(steps) > config.max_repetition or _repeats_much("\n".join(steps), config.max_repetition):
        return True
    answer = record["answer"]
    if len(answer) < _LONG_ANSWER or config.max_repetition == 1:
        return False
    return runs_in_a_loop(answer) or _repeats_much(prose_of(answer), config.max_repetition)


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
    skip = config.skip
    if config.keep_non_thinking and not record["steps"] and not unknown_tag(record["answer"]):
        skip = (*skip, *_OF_CHAINS)
    for name, fails in _FILTERS.items():
        if name not in skip and fails(trace, record, config):
            return name
    return None
