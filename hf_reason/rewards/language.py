"""The reward for the language: does a chain stay in the language of its problem?"""

import unicodedata
from collections.abc import Sequence
from typing import Any

from hf_reason.data.languages import count_words, detect_language, without_code

from .completion import problems, read_chains

# A part of a thought is looked at on its own from so many words; fewer say nothing.
_LEAST_WORDS = 8
_PARTS = 4


class LanguageReward:
    """See `get_language_reward`."""

    __name__ = "language_reward"

    def __init__(self, language: str | None = None, tolerance: float = 0.2):
        if language not in (None, "zh", "en"):
            raise ValueError(f"language must be 'zh', 'en' or None (the problem's own), got {language!r}.")
        if not 0 <= tolerance < 1:
            raise ValueError(f"tolerance must be in [0, 1), got {tolerance}.")
        self.language, self.tolerance = language, tolerance

    def __call__(
        self, completions: Sequence[Any], prompts: Sequence[Any] | None = None, **columns: Any
    ) -> list[float | None]:
        told = problems(columns, prompts, len(completions))
        chains = read_chains(completions, prompts)
        texts = ["\n".join((*chain.steps, chain.answer)) for chain in chains]
        return [self.reward_of(text, problem) for text, problem in zip(texts, told, strict=True)]

    def reward_of(self, text: str, problem: str) -> float | None:
        language = self.language or detect_language(problem)
        if language not in ("zh", "en"):
            return None
        text = without_code(unicodedata.normalize("NFKC", text))
        size = len(text) // _PARTS + 1
        parts = [text[start : start + size] for start in range(0, len(text), size)]
        ratios = [ratio for part in parts if (ratio := _ratio(part, language, _LEAST_WORDS)) is not None]
        whole = _ratio(text, language, 1)
        lowest = min([*ratios, 1.0 if whole is None else whole])
        return min(1.0, lowest / (1 - self.tolerance))


def _ratio(text: str, language: str, least: int) -> float | None:
    words = count_words(text)
    if words.total < least:
        return None
    return (words.chinese if language == "zh" else words.latin) / words.total


def language_reward(
    completions: Sequence[Any], prompts: Sequence[Any] | None = None, **columns: Any
) -> list[float | None]:
    """Whether a completion stays in the language of its problem, in [0, 1].

        min(1, r / (1 - 0.2)),   r = the lowest fraction of words of that language, of the whole and of each quarter

    So a fifth of foreign words is free (names, terms), and one that drifts in its last quarter pays as one that is
    foreign throughout. Formulas and code are no words; traditional characters are Chinese, full-width letters are
    Latin. A completion without words gets 1: nothing in it is foreign. `None` where the problem is in a language other
    than Chinese or English, or a mixture.

    Args:
        completions: Strings, or lists of messages.
        prompts: Strings, or lists of messages; the problem is read from them where there is no column `context`.
        columns: `context` and `task` are used where they are there.
    """
    return LanguageReward()(completions, prompts, **columns)


def get_language_reward(language: str | None = None, tolerance: float = 0.2) -> LanguageReward:
    """`language_reward` with settings.

    Args:
        language: `"zh"` or `"en"` whatever the problem is in. Default: the problem's.
        tolerance: Fraction of foreign words that costs nothing, in [0, 1).
    """
    return LanguageReward(language, tolerance)
