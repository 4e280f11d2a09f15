"""What a problem of an evaluation file consists of: instructions, the problem itself, and options to choose from."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from hf_reason.answers.numerals import in_digits

from .framing import without_frames
from .text_keys import folded, normalise

_OPTION = re.compile(r"(?:^|(?<=[\s)）.。,，;；]))[(（]?([A-JＡ-Ｊ])[)）.．、:：](?=\s*\S)")
_LETTERS = "ABCDEFGHIJ"
_POLITE = re.compile(r"^(?:你好|您好|请问一?下?|麻烦|帮我|问题|题目|question|problem|q)[,，:：!！\s]*", re.IGNORECASE)
# 一个长方形 names no number.
_ONE = re.compile("(?<![零一二三四五六七八九十百千万亿点第])一(?![零一二三四五六七八九十百千万亿点半])")
_KEPT_ONE = "\ue000"
# A line is an instruction of the file, not a part of the problem, if it is short and so many rows repeat it.
_LONGEST_INSTRUCTION = 200
_LEAST_REPEATS = 5
_REPEATED_RATIO = 0.05
# Words of stems and instructions that say nothing about what is asked.
_GENERIC_CHINESE = re.compile(
    "下列|以下|下面|关于|有关|对于|说法|叙述|表述|描述|判断|选项|各项|各组|正确|错误|符合|题意|恰当|合适|属于|不属于|选择|选出|选取"
    "|答案|题目|问题|单选|多选|单项|根据|上述|材料|上文|文章|回答|解答|解决|完成|作答|作为|认为|理解|理由|一步一步|步骤|思考|推理|详细"
    "|过程|仔细|认真|用户|助手|给出|最终|最后|放在|的|中|哪|一|个|项|几|道|组|不|是|有|为|最|请|和|你|我|这|题|地|并|把|来|下|内|按|要求"
)
_GENERIC_ENGLISH = re.compile(
    r"\b(?:which|what|of|the|following|statements?|is|are|correct|incorrect|true|false|not|best|choose|select|pick|answers?"
    r"|answering|options?|above|below|questions?|problems?|please|one|most|appropriate|except|all|about|a|an|and|or|in|to"
    r"|regarding|concerning|must|can|be|you|your|helpful|assistant|respond|response|solve|step|by|think|reason(?:ing)?"
    r"|carefully|final|put|within|boxed|give|letter|only|task|instructions?|context|passage|based|on|with|for|from|this|that"
    r"|read|then|it|as|complete|completes|appropriately|request|write|describes)\b"
)
# Without one of these a text is no stem and no instruction, however short.
_TELLTALE = re.compile(
    r"下列|以下|下面|选项|各[项组]|正确|错误|不属于|请|回答|作答|题目|问题|单选|多选|助手|一步一步|放在"
    r"|\b(?:following|statements?|correct|true|false|options?|answer|questions?|solve|assistant|step|boxed|complete|response"
    r"|choose|select|instructions?)\b"
)
_WORD = re.compile("[a-z]{2,}|[\u3400-\u9fff]|\\d+|[α-ω]")
_NUMBER = re.compile(r"\d+")
# Characters of Chinese, words of English and numbers that a stem needs to be a question of its own.
_LEAST_CONTENT = 4


@dataclass(frozen=True)
class Parts:
    """A problem, reduced to its keys.

    Attributes:
        stem: The problem without instructions and options, normalised, with numerals in digits.
        lines: The same by lines.
        words: The same with its spaces and punctuation, folded.
        options: The options, normalised; empty if there are none.
        generic: Whether the stem says nothing without its options ("Which of the following is correct?").
    """

    stem: str
    lines: tuple[str, ...]
    words: str
    options: frozenset[str]
    generic: bool


def split_problems(texts: list[str]) -> list[Parts]:
    """The parts of the problems of one file; lines that many of them repeat are instructions."""
    stems, options = zip(*map(_split_options, texts), strict=True) if texts else ((), ())
    repeats = Counter(line for stem in stems for line in {line.strip() for line in stem.splitlines()})
    least = max(_LEAST_REPEATS, _REPEATED_RATIO * len(texts))
    common = {line for line, count in repeats.items() if count >= least and len(line) <= _LONGEST_INSTRUCTION}
    return [_parts(stem, found, common) for stem, found in zip(stems, options, strict=True)]


def parts_of(text: str) -> Parts:
    """The parts of one problem."""
    return _parts(*_split_options(text), set())


def is_generic(text: str) -> bool:
    """Whether a text is a stem or an instruction with next to nothing in it but the words that all of them have."""
    plain = folded(text)
    if not _TELLTALE.search(plain) or len(_NUMBER.findall(plain)) > 1:
        return False
    return len(_WORD.findall(_GENERIC_ENGLISH.sub(" ", _GENERIC_CHINESE.sub(" ", plain)))) < _LEAST_CONTENT


def _parts(stem: str, options: Iterable[str], common: set[str]) -> Parts:
    lines = [line.strip() for line in stem.splitlines()]
    content = [line for line in lines if line not in common]
    # A file of one question in many variants repeats the question.
    if all(is_generic(line) for line in content):
        content = lines
    # Instructions are left out where something else is there.
    telling = without_frames([line for line in content if not _is_instruction(line)] or content)
    telling[:1] = [_POLITE.sub("", line) or line for line in telling[:1]]
    text = "\n".join(telling)
    return Parts(
        _key(text),
        tuple(map(_key, telling)),
        folded(text),
        frozenset(filter(None, map(normalise, options))),
        is_generic(text),
    )


def _key(text: str) -> str:
    text = normalise(text)
    if text.isascii():
        return text
    return in_digits(_ONE.sub(_KEPT_ONE, text)).replace(_KEPT_ONE, "一")


def _is_instruction(line: str) -> bool:
    return not re.search(r"\d", line) and is_generic(line)


def _split_options(text: str) -> tuple[str, list[str]]:
    """The text before the options, and the options. They are lettered from A in order, two at least."""
    marks: list[re.Match[str]] = []
    for match in _OPTION.finditer(text):
        letter = folded(match[1]).upper()
        if letter == "A":
            marks = [match]
        elif marks and letter == _LETTERS[len(marks) % len(_LETTERS)]:
            marks.append(match)
    if len(marks) < 2:
        return text, []
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return text[: marks[0].start()], [text[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
