"""Which options an answer chooses: letters, circled numbers, 甲乙丙丁."""

import re

from .final import all_boxes, final_part
from .normalise import fold, undressed

_JOIN = r" ?(?:(?:[,，] ?(?:\band\b|和|以及)|[,，、;；和与及&/]|以及|\band\b) ?)?"
_STEM = "甲乙丙丁戊"
# 甲醇, 丁基: names of substances
_STEM_ALONE = rf"[{_STEM}](?![\u4e00-\u9fff]*[醇烷酸酯基苯型级等方班校地车队船])"
_ONE = rf"[(（\[]? ?(?:[A-Z](?![a-z])|[①-⑳]|{_STEM_ALONE})(?: ?[)）\]])?"
_LETTERS = rf"{_ONE}(?:{_JOIN}{_ONE}){{0,9}}+"
_MARK = re.compile(rf"[A-Z]|[①-⑳]|[{_STEM}]")
# (1)(3) is ①③; a single (3) may be a number in brackets.
_NUMBERED = re.compile(r"[(（](\d|1\d|20)[)）]")
_SEVERAL_NUMBERED = re.compile(rf"(?:{_NUMBERED.pattern}[,，、和]?\s?){{2,10}}(?=[。.]?$|正确|对)")
_ALL_NUMBERED = re.compile(rf"^(?:选项?\s*)?(?:{_NUMBERED.pattern}{_JOIN}){{2,10}}(?:项|正确)?[.。]?$")
# Statements I, II and III: where one of them has several letters, all are numerals.
_ROMANS = {name: chr(ord("①") + at) for at, name in enumerate("I II III IV V VI VII VIII IX X".split())}  # noqa: SIM905
_ROMAN = re.compile(
    r"(?<![A-Za-z'])(?:VIII|VII|VI|IV|IX|III|II|I|V|X)(?![A-Za-z'])(?!\s+(?:think|choose|believe|would|am|get|have|will|can|know)\b)"
)
_LONG_ROMAN = re.compile(r"(?<![A-Za-z'])(?:VIII|VII|VI|IV|IX|III|II)(?![A-Za-z'])")
_ONLY = re.compile(r"^(?:statements?|options?|only)\s+|\s+only$", re.IGNORECASE)
# Words between letters that are no letters: "A and C" must not give a, n, d.
_ALONE = re.compile(
    rf"^(?:选项?\s*|序号[是为:：]?\s*|(?i:options?|choices?)\s*)?({_LETTERS})\s*(?:项|选项|正确|是?对的)?[.。:：]?$"
)
_OPTION = re.compile(r"^[(（\[]?([A-Z])[)）\].．、:：]+\s*(\S.*)$", re.DOTALL)
_OR = r"(?!\s*(?:或者?|还是|\bor\b)\s*[(（]?[A-J①-⑳])"
_WRONG = rf"{_OR}(?!\s*(?:选?项|option)?\s*(?:(?:是|is|are|都)\s*)?(?:错|不|有误|wrong|incorrect|not|false|排除))"
_STATED = (
    re.compile(
        rf"(?<![不别非排除没])(?<!不[能应该会可要])(?:应该?选|故选|(?:认为|觉得)(?:应该)?是|选择|选项?|正确(?:的)?(?:选项|答案|结论|说法|命题|的)?|答案)"
        rf"(?:应该|应当|应|就|只有|的?序号|的?有|项)?(?:是|为|选|[:：])*\s*[*$\s]*({_LETTERS})(?![A-Za-z]){_WRONG}"
    ),
    re.compile(
        rf"(?<![A-Za-z])({_LETTERS})(?![A-Za-z])\s*(?:选?项|选项)?\s*(?:(?:才|都|均|就|说法|答案)?是|[都均全])?(?:正确|对的|对(?=[\s。,，；;.]|$)|[是为]真命题|符合(?:题意|要求))"
    ),
    re.compile(
        r"(?i:\b(?:answers?|ans|options?|choices?|both)(?: (?:should|must|would|has to|can only) be| is| are|[:：])*"
        r"(?: the)?(?: options?| choices?)?)"
        rf"\s*[:：]?[*$\s]*({_LETTERS})(?![A-Za-z'])"
        rf"(?!\s+(?!and\b|because|since|as\b|is\b|are\b|which|for\b)[a-z]){_WRONG}"
    ),
    re.compile(
        r"(?:所以|因此|故|于是|(?i:\b(?:so|therefore|thus|hence)\b))[,，:：]?\s*"
        r"(?:应?该?(?:是|选|为)|(?i:it'?s|it (?:is|must be|should be|has to be)))?\s*"
        rf"({_LETTERS})\s*(?=[.。!！]|$)"
    ),
    re.compile(
        r"(?i:\b(?:correct|true|right) (?:statements?|propositions?|conclusions?|ones?|items?) (?:is|are))"
        rf"\s*({_LETTERS})(?![A-Za-z'])"
    ),
    re.compile(rf"(?i:\b(?:choose|pick|select|go with)(?: options?| choices?)?)\s*({_LETTERS})(?![A-Za-z']){_WRONG}"),
    re.compile(rf"(?<![A-Za-z'])({_LETTERS})(?![A-Za-z'])\s+(?i:(?:is|are)(?: the)?(?: correct| right| true))"),
)
# Only where nothing else is stated: the question asks for the wrong one.
_WRONG_ONE = re.compile(
    rf"(?:不正确|错误|不对|有误|不成立|不符合题意|不可能)的?(?:选项|一项|说法|结论|命题|一个)?(?:应该|应|有|序号)?(?:是|为)\s*[*$]*({_LETTERS})(?![A-Za-z])"
)
# 最终答案：北京（B）
_BEHIND = re.compile(r"^[^()（）,，]{0,30}(?:[\u4e00-\u9fff]{2}|[a-z]{3}|\d)\s*[(（]\s*([A-J])\s*[)）]$")
_SMALL = re.compile(r"^(?:[Oo]ption|[Cc]hoice|选项?|答案[是为:]?)?\s*[(（]?([a-j])[)）]?[.。]?$")
_BLANKS = re.compile(r"\s+")
_MAX_CHOICE = 200
_LEADS = re.compile(r"^[(（\[]?([A-H])(?:[)）\]]|[.．、:：])(?!\w*\d*[=+])(?!\s*[A-J](?![A-Za-z]))")


def _marks(text: str) -> str:
    text = re.sub(r"\band\b", ",", text)
    return "".join(sorted(set(_MARK.findall(text))))


def _circled(text: str) -> str:
    """(1)(3) as ①③."""
    return _NUMBERED.sub(lambda match: chr(ord("①") + int(match[1]) - 1), text)


def _romans(text: str) -> str:
    """I and III as ① and ③."""
    return _ROMAN.sub(lambda match: _ROMANS[match[0]], text) if _LONG_ROMAN.search(text) else text


def is_choice(text: str) -> str | None:
    """The options of a text that is nothing but options (`C`, `(C)`, `A、C`, `选B`, `①③`), sorted, or `None`.

    Several letters in a row are options only where each comes once and none is beyond J.
    """
    if len(text) > _MAX_CHOICE:
        return None
    plain = _BLANKS.sub(" ", undressed(text))
    if _LONG_ROMAN.search(plain):
        plain = _romans(_ONLY.sub("", _ONLY.sub("", plain)))
    if _ALL_NUMBERED.match(plain):
        plain = _circled(plain)
    match = _ALONE.match(plain)
    if match is None:
        return None
    marks = _MARK.findall(re.sub(r"\band\b", ",", match[1]))
    joined = len(marks) > 1 and re.search(r"[A-Z]{2}", match[1])
    if len(set(marks)) != len(marks) or (joined and max(marks) > "J"):
        return None
    return "".join(sorted(marks))


def option(text: str) -> tuple[str, str] | None:
    """The letter and the content of a reference such as `B. 12` or `(B) 12`."""
    match = _OPTION.match(undressed(text)) if len(text) <= _MAX_CHOICE else None
    return (match[1], match[2].strip()) if match else None


def chosen(text: str) -> str | None:
    """The options that an answer chooses, sorted, or `None` where it states none."""
    boxes = [is_choice(box[2]) for box in all_boxes(text)]
    part, marked = final_part(text)
    if boxes and boxes[-1]:
        joined = is_choice(part)
        return joined or boxes[-1]
    for candidate in (text, part):
        found = is_choice(candidate)
        if found:
            return found
    plain = _BLANKS.sub(" ", fold(re.sub(r"\\text\s*\{([^{}]*)\}|[{}$*]", r"\1", text[-3000:])))
    plain = _SEVERAL_NUMBERED.sub(lambda match: _circled(match[0]), _romans(plain))
    stated = [match for pattern in _STATED for match in pattern.finditer(plain)]
    if stated:
        return _marks(max(stated, key=lambda match: match.end())[1])
    stated = list(_WRONG_ONE.finditer(plain[-_MAX_CHOICE:]))
    if stated:
        return _marks(stated[-1][1])
    behind = _BEHIND.search(part) if marked else None
    if behind:
        return behind[1]
    match = _LEADS.match(undressed(part) if marked else text.strip()) or _SMALL.match(undressed(part))
    return match[1].upper() if match else None
