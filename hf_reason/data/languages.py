"""The language of a text, by its words: Chinese, English, another one, or a mixture.

A Chinese character counts as one word and so does a run of Latin letters, so that a few English terms inside Chinese
prose do not outweigh it. Code blocks and formulas (LaTeX commands, names of points and functions, units) are no words.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

LANGUAGES = ("zh", "en", "mixed", "other")

# A text is of one language when the others make up at most this fraction of its words.
_MIXED_RATIO = 0.3
# Whole runs, so that a long text costs few matches.
_CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
_ANY_LATIN = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a]{2}")
# AB and ABC are points of a figure or units; total=sum(list) is code.
_LATIN_WORD = re.compile(
    "(?<![\\\\A-Za-z\u00c0-\u024f])(?!(?:[A-Z]{2,4}|sin|cos|tan|cot|log|lim|max|min|mod|gcd|lcm|[ckm]m|[km]g|ml)"
    "(?![A-Za-z]))[A-Za-z\u00c0-\u024f\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a]{2,}+(?![=(_\\[])"
)
_CODE_BLOCK = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)", re.DOTALL)
_CODE_SPAN = re.compile(r"`[^`\n]+`")
_LATEX_NAME = re.compile(r"\\(?:begin|end|mathrm|mathbf|operatorname|label|ref)\s*\{[^{}]*\}")
# Scripts of neither language. Single Greek letters and products of two are formulas.
_KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fd-\u30ff\u31f0-\u31ff\uff66-\uff6f\uff71-\uff9d"
_SYLLABLES = f"{_KANA}\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7fb\uffa0-\uffdc\ua000-\ua48c"
_UNSPACED = "\u0e01-\u0eff\u0f00-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf"
_LETTERS = "\u0400-\u052f\u0531-\u0df4\u10a0-\u10ff\u1200-\u177f\u1800-\u194f\u19e0-\u1a1f\u1b00-\u1cff\u2c00-\u2dff"
_LETTERS += "\ua4d0-\uabff\ufb13-\ufdff\ufe70-\ufefc"
_GREEK = "\u0370-\u03ff\u1f00-\u1fff"
_OTHER = re.compile(f"([{_SYLLABLES}]+)|([{_UNSPACED}]+)|[{_LETTERS}]{{2,}}|[{_GREEK}]{{3,}}")
# Everything that `_OTHER` finds has such a character; most texts have none, and this is found out much sooner.
_UNUSUAL = re.compile("[^\x00-\u02ff\u2000-\u2bff\u2e80-\u3040\u3400-\u9fff\uff00-\uff65]")
# What these scripts write without spaces has about four characters a word.
_UNSPACED_WORD = 4
_ANY_KANA = re.compile(f"[{_KANA}]")
# The reading of a name, as in 藤宫（ふじみや）.
_READING = re.compile(f"[（(][{_KANA}\u30fb-\u30fc\\s]+[)）]")
# Sentences, and what is quoted in them: 请翻译「これはペンです」 is a Chinese sentence about a Japanese one.
_PIECES = re.compile('[。！？；!?;\n「」『』“”"《》（）()]+')
_QUOTED = re.compile('[「『《“"][^「」『』《》“”"\n]{1,400}[」』》”"]')
# A piece is Japanese from this fraction of kana; its Chinese characters are Japanese then.
_KANA_RATIO = 0.2
# Common English words that are rare in other languages of Latin letters, and the fraction of words from which a text
# is English without a closer look. English prose has about a third, statements of problems about a fifth.
_ENGLISH = frozenset(
    """
    the of and is are that with how what which this find each from by be has have let then we if for it its were
    there when many much does can not you your they she his all would should will solve given evaluate calculate
    simplify compute determine write explain why who step
    """.split()  # noqa: SIM905
)
_ENGLISH_RATIO = 0.12
# Below this probability of English a text is in another language. Of the 79 problems of GSM8K and MATH that get a
# closer look, the lowest has 0.11; sentences in French, German, Turkish or Indonesian have less than 0.01.
_LEAST_PROBABILITY = 0.03
# Fewer words than this say nothing about which language of Latin letters it is.
_LEAST_WORDS = 4
_LEAST_PROSE = 8
_LOOK_AT = 1000


@dataclass(frozen=True, slots=True)
class WordCounts:
    """Words of a text by language; see the module for what a word is."""

    chinese: int
    latin: int
    other: int

    @property
    def total(self) -> int:
        return self.chinese + self.latin + self.other


def count_words(text: str) -> WordCounts:
    """The words of `text` by script; Chinese characters of a Japanese sentence count as other."""
    latin = len(_LATIN_WORD.findall(_LATEX_NAME.sub(" ", text))) if _ANY_LATIN.search(text) else 0
    if text.isascii():
        return WordCounts(0, latin, 0)
    chinese = sum(map(len, _CHINESE.findall(text)))
    other = 0
    if _UNUSUAL.search(text) and _OTHER.search(text):
        text = _READING.sub("", text)
        other = _other_words(text)
        if chinese and _ANY_KANA.search(text):
            japanese = sum(map(_japanese, _PIECES.split(text)))
            chinese, other = chinese - japanese, other + japanese
    return WordCounts(chinese, latin, other)


def cjk_ratio(text: str) -> float:
    """Fraction of Chinese among the words of `text`, in [0, 1].

    A text without words (only numbers and formulas, say) scores 1, since nothing in it is foreign.
    """
    words = count_words(text)
    return words.chinese / words.total if words.total else 1.0


def detect_language(*texts: str) -> str:
    """The language of the first of `texts` that has words in it: one of `LANGUAGES`.

    Code counts only if there is nothing else. A text in Latin letters is English unless it has at least four words,
    hardly any common English one among them, and py3langid is sure that it is something else: then it is `"other"`,
    like Russian, Japanese or Arabic. Without any word in any of them the result is `"zh"`: nothing is foreign.
    """
    for text in texts:
        prose = without_code(text)
        for part in (prose, text) if prose is not text else (text,):
            words = count_words(part)
            if words.total:
                return _language(part, words)
    return "zh"


def has_words(text: str) -> bool:
    """Whether `text` says anything about its language."""
    return count_words(text).total > 0


def is_foreign_prose(text: str, least: float) -> bool:
    """Whether `text` is prose (eight words or more, code apart) with a fraction of Chinese below `least`.

    Names, terms and code in Latin letters are no prose.
    """
    prose = without_code(text)
    words = count_words(prose)
    if words.total < _LEAST_PROSE or words.chinese >= least * words.total:
        return False
    if words.other > words.latin:
        return True
    return _english_ratio(_latin_words(prose)) >= _ENGLISH_RATIO or not _is_english(prose)


def without_code(text: str) -> str:
    """`text` without code blocks and code inside of lines; `text` itself if it has none."""
    if "`" not in text and "~~~" not in text:
        return text
    return _CODE_SPAN.sub(" ", _CODE_BLOCK.sub(" ", text))


def _language(text: str, words: WordCounts) -> str:
    least = (1 - _MIXED_RATIO) * words.total
    if words.chinese >= least:
        return "zh"
    if words.latin >= least:
        return "en" if _is_english(text) else "other"
    if words.other >= least:
        return "other"
    # What is only quoted is not what a text is written in.
    unquoted = _QUOTED.sub(" ", text)
    left = count_words(unquoted) if unquoted != text else words
    return _language(unquoted, left) if left.total >= _LEAST_WORDS and left != words else "mixed"


def _other_words(text: str) -> int:
    words = 0
    for match in _OTHER.finditer(text):
        length = match.end() - match.start()
        if match[1]:
            words += length
        else:
            words += max(1, length // _UNSPACED_WORD) if match[2] else 1
    return words


def _japanese(piece: str) -> int:
    """The Chinese characters of a sentence that is Japanese."""
    kana = len(_ANY_KANA.findall(piece))
    chinese = sum(map(len, _CHINESE.findall(piece))) if kana else 0
    return chinese if kana >= _KANA_RATIO * (kana + chinese) else 0


def _latin_words(text: str) -> list[str]:
    text = unicodedata.normalize("NFKC", text[:_LOOK_AT])  # ｗｉｄｅ letters are those of words
    return [word.lower() for word in _LATIN_WORD.findall(_LATEX_NAME.sub(" ", text))]


def _english_ratio(words: list[str]) -> float:
    return sum(word in _ENGLISH for word in words) / max(1, len(words))


def _is_english(text: str) -> bool:
    words = _latin_words(text)
    if len(words) < _LEAST_WORDS or _english_ratio(words) >= _ENGLISH_RATIO:
        return True
    return bool(dict(_identifier().rank(" ".join(words)))["en"] >= _LEAST_PROBABILITY)


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
