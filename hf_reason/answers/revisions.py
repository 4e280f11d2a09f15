"""What an answer withdraws: 答案是3，不是4; the answer is 5. Wait, no, it should be 6."""

import re

# A value: digits, a formula, or an option letter; "3不是质数" denies no value.
VALUE = r"(?:选项?\s*|option\s+|[a-z]\s*=\s*)?(?:[$\\(（]{0,3}\s*-?[\d.√π]|\\|\$|[(（]?[A-J](?![A-Za-z])|[①-⑳])"
_DENIED = re.compile(
    rf"(?<![\s,，;；(（])[\s,，;；(（]*+(?:而|并|绝|可|也|\band\s+|\bbut\s+)?\s*(?:不是|不为|并非|不选|不应选|不能选|排除了?|"
    rf"\bnot\b|\brather than\b|\binstead of\b|\bisn't\b)\s*[*]*(?={VALUE})"
    r"(?:选项?\s*|option\s+|[a-z]\s*=\s*)?[$\\({（]*-?[\w.\\{}^/%°√π+=、-]+(?:\s*[\u4e00-\u9fff]{1,4})?[)）$]*",
    re.IGNORECASE,
)
_INSTEAD = re.compile(
    rf"(?:不是|不为|不选|并非|\bnot\b)\s*[*]*{VALUE}[^,，。;；]{{0,60}}?[,，\s]{{0,3}}(?:而是|而应?该?是|应该?是|(?<=[,，])是|而选|\bbut\b)\s*(?:rather\s+)?",
    re.IGNORECASE,
)
# x=-3 (不合题意，舍去): a root that is rejected.
_REJECTED = re.compile(
    r"(?:^|[,，;；、或和(（]|\bor\b|\band\b)\s*(?![(（])[^,，;；。、或和()（）\n]{1,30}[(（]?\s*"
    r"(?:不合题意|不符合?题意|不符合要求|(?:应该?|需|要)?舍去|[是为]增根|extraneous|rejected|discarded)"
    r"(?:[,，]\s*(?:应该?)?舍去)?[^,，;；。、()（）\n\d]{0,6}[)）]?",
    re.IGNORECASE,
)
_REVISES = re.compile(
    r"等等|等一下|慢着|不对(?!称|等|应)|错了|算错|有误|搞错|更正|修正|纠正|重新(?:计算|算|检查|审视|考虑)|"
    r"\b(?:wait|actually|correction|hold on|scratch that|my mistake|i made (?:a mistake|an error)"
    r"|that'?s (?:wrong|not right|incorrect)|oops|sorry)\b",
    re.IGNORECASE,
)
_STATES_AGAIN = re.compile(
    r"(?:应该|应当|实际上?|其实|正确(?:的)?(?:答案|结果|值)?|改|还|仍然|依然|仍|最后|最终)?(?:应?是|应?为|等于|得到?|选)(?![否不])[:：]?\s*"
    r"|\b(?:should be|it'?s|it is|is(?: actually| still)?|becomes?|get|equals?|answer:)\s+(?:actually\s+|still\s+)?",
    re.IGNORECASE,
)
_MAX_REVISION = 200
SENTENCE_END = re.compile(r"[。！？?\n]|!(?=\s*$|\s+[A-Z\u4e00-\u9fff])|\.(?=\s|$)")


def without_denials(part: str) -> str:
    """A statement without the values that it denies: `3, not 4` -> `3`; `不是4，而是3` -> `3`."""
    part = _REJECTED.sub("", part).strip(" ,，;；、") or part
    instead = list(_INSTEAD.finditer(part))
    if instead:
        return part[instead[-1].end() :].strip()
    kept, denials = _DENIED.subn("", part)
    if not denials:
        return part
    kept = kept.strip(" ,，;；").rstrip("(（ ")
    return kept if re.search(r"[\dA-Za-z√π①-⑳]", kept) else part


def revised(tail: str) -> str | None:
    """What the text after a statement puts in its place.

    Returns:
        The revised statement; "" where the text takes the statement back and states nothing that can be read;
        `None` where it takes nothing back.
    """
    found = None
    for match in _REVISES.finditer(tail):
        found = match
    if found is None:
        return None
    rest = tail[found.end() : found.end() + _MAX_REVISION]
    again = None
    for match in _STATES_AGAIN.finditer(rest):
        if re.match(rf"[*]*{VALUE}", rest[match.end() :]):
            again = match
    if again is None:
        return ""
    return SENTENCE_END.split(rest[again.end() :], maxsplit=1)[0].strip(" *")
