"""Answers in numbered parts ((1) 3; (2) 5), and what stands before a value without being a part of it."""

import re

from .units import measures

_AFTER = r"(?:^|(?<=[\s,，;；。、]))"
_PART = re.compile(
    rf"(?<![A-Za-z])(?:第\s*)?[(（]\s*(\d)\s*[)）]\s*(?:小?[问题])?|{_AFTER}第\s*([一二三四五六七八九\d])\s*小?[问题空]"
    rf"|{_AFTER}(\d)[)）、]|([①-⑨])"
)
_FIRST_PART = re.compile(r"\n[ \t]*(?=[(（]\s*1\s*[)）]|第[一1]小?[问题空]|①)")
_MAX_PARTS = 500
_INTRODUCES = re.compile(r"^\s*(?:的?(?:答案|结果|值))?(?:应?[是为]|[:：])?\s*")
# "Therefore, ...", "所以": words that lead to a result and are no part of it.
_LEADS = re.compile(
    r"^(?:(?:(?:所以|因此|解(?!集)|故|则|即|得|综上(?:所述)?|于是|可知|最终|最后)[,，]?(?:可?解?得|求得|可知|有)?|(?:可|解|求)得|∴"
    r"|(?:and\s+)?(?:therefore|thus|hence|so|then|finally|consequently|we (?:get|have|find|obtain)(?: that)?"
    r"|it follows that|this gives|giving)(?![A-Za-z]))\s*[:：,，]?\s*)+",
    re.IGNORECASE,
)
_ANSWERS_ARE = re.compile(
    r"^(?:the\s+)?(?:(?:only|real|final|correct|possible|two|three)\s+)*(?:solutions?|roots?|answers?|values?|zeros?|results?)"
    r"(?:\s+(?:of|to|for)\s+(?:the\s+)?[\w\s^+=-]{1,30}?)?\s*(?:is|are|:)\s+|^(?:[原该此]?方程组?的?|不等式组?的?)?(?:解|根|两根|答案|结果)(?:分别)?(?:是|为)[:：]?\s*",
    re.IGNORECASE,
)
# C(5,2) is a binomial coefficient.
_POINT = re.compile(
    r"^(?:点\s*[A-Z]?['′]?\d?|[ABD-Z]['′]?\d?)?\s*(?:的?坐标)?\s*(?:是|为|=|:)?\s*(?=[(（][^()（）]*[,，][^()（）]*[)）]$)"
)
# 向量a=..., \\cos A=...: what the value belongs to.
_NAMING = re.compile(
    r"^(?:[\u4e00-\u9fff]{2,6}(?=\\?[A-Za-z]\w?\s*=[^=]+$)|\\?(?:sin|cos|tan|cot)\s*∠?\\?[A-Za-z]{1,6}\s*=\s*(?=[^=]+$)"
    r"|(?:[\u4e00-\u9fff]{0,6}的)?(?:解集|取值范围|定义域|值域)(?:是|为)?[:：]?\s*)"
)
_SPEED = re.compile(r"^([时秒])速(?:是|为|约)?\s*(?=\d.{0,12}[米里]$)")
_LETTER_IS = re.compile(r"(?<=\b[b-zB-HJ-Z])\s+(?:is|equals)\s+(?=[-\d\\(])")
_RATE = re.compile(
    r"^每\s*([\u4e00-\u9fff]{1,3}?)(?:行驶|行|走|跑|飞行|收费|生产|售价|需要|需|用|是|为)?\s*(\d.*?[\u4e00-\u9fff]{1,4})$"
)


def without_leads(text: str) -> str:
    """A text without the words that lead to its result."""
    text = _NAMING.sub("", _LEADS.sub("", text))
    text = _LETTER_IS.sub("=", text) if " is " in text or " equals " in text else text
    return _POINT.sub("", _ANSWERS_ARE.sub("", text))


def rate(text: str) -> str:
    """每小时60千米 as 60千米/小时."""
    match = _RATE.match(_SPEED.sub(lambda match: "每小时" if match[1] == "时" else "每秒", text))
    return f"{match[2]}/{match[1]}" if match and measures(match[1]) else text


def _number(match: re.Match[str]) -> int:
    mark = next(group for group in match.groups() if group)
    if mark in "一二三四五六七八九":
        return "一二三四五六七八九".index(mark) + 1
    return ord(mark) - ord("①") + 1 if mark >= "①" else int(mark)


def numbered_parts(text: str) -> list[str] | None:
    """The parts of a text that numbers them 1, 2, 3 from its beginning, without the numbers; else `None`."""
    marks = list(_PART.finditer(text))
    if (
        len(marks) < 2
        or text[: marks[0].start()].strip()
        or [_number(mark) for mark in marks] != [*range(1, len(marks) + 1)]
    ):
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    parts = [
        _INTRODUCES.sub("", text[mark.end() : end]).strip(" ,，;；。.、\n")
        for mark, end in zip(marks, ends, strict=True)
    ]
    return parts if all(parts) else None


def numbered_end(text: str) -> str | None:
    """The end of a text, from the last line that begins with (1), where it is nothing but numbered parts."""
    if len(text) <= _MAX_PARTS and numbered_parts(text):
        return text
    starts = [match.end() for match in _FIRST_PART.finditer(text)]
    end = text[starts[-1] :].strip() if starts else ""
    return end if 0 < len(end) <= _MAX_PARTS and numbered_parts(end) else None
