"""Where sentences begin, which of them open a new thought, and how much a piece of text weighs."""

import re

CHINESE_MARKERS = (
    "首先|其次|再次|再者|再有|然后|接下来|接着|紧接着|随后|之后|下一步|最后|最终|所以|因此|因而|于是|从而|故而|"
    "由此|综上|综合|总之|总的来说|总结|另外|此外|还有|不过|但是|但|然而|等等|等一下|等下|且慢|稍等|嗯|哦|啊|"
    "好的|好，|那么|那(?=[，,我就])|现在|同时|同样|同理|换句话说|也就是说|换一种|换个|或者|也许|不对|再看|再试|再来|再算|"
    "再尝试|再考虑|让我|我再|我们再|假设|如果|回到|根据以上|(?:第|其)[一二三四五六七八九十]{1,3}(?=[，,、：:])"
)
ENGLISH_MARKERS = (
    "first|firstly|second|secondly|third|thirdly|fourth|next|then|after that|afterwards|finally|lastly|wait|"
    "hold on|hmm+|oh|but|yet|actually|therefore|thus|hence|so|consequently|as a result|accordingly|"
    "alternatively|however|instead|on the other hand|also|additionally|moreover|furthermore|besides|"
    "in addition|in summary|in conclusion|in short|to summarize|to sum up|overall|okay|ok|alright|all right|"
    "well|now|let me|let's|lets|let us|similarly|likewise|meanwhile|another|maybe|perhaps|putting it"
)
MARKER = re.compile(rf"(?:\*\*)?(?:(?:{CHINESE_MARKERS})|(?i:{ENGLISH_MARKERS})\b(?![-'’]))")
CONCLUSION = re.compile(
    r"(?:\*\*)?(?:所以|因此|因而|综上|总之|由此|最终|故|答案?(?=[是为：:])|"
    r"(?i:so|therefore|thus|hence|finally|in total|in conclusion|in summary|overall|the (?:final )?answer)\b)"
)
HEADING = re.compile(r"#{1,6}[ \t]+\S|-{3,}[ \t]*$", re.MULTILINE)
SPACE = re.compile(r"\s*")
ABBREVIATION = re.compile(
    r"(?:^|[^A-Za-z.])(?:e\.g|i\.e|etc|vs|cf|al|approx|resp|ca|mr|mrs|ms|dr|prof|fig|figs|eq|eqs|no|nos|vol|sec|ch|"
    r"jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|st|jr|sr|inc|ltd|co|dept|a\.m|p\.m|u\.s|w\.r\.t)$",
    re.IGNORECASE,
)
_FRAGMENT = 7  # letters, a Chinese one counted twice; "好的。" or "Wait." is the beginning of a step, not one
_BEGINNING = 24  # characters that are looked at first
_SENTENCE_END = re.compile(r"[。！？；!?….．;]+[\"'”’」』）)】\]*]*")
_ALWAYS_END = frozenset("。！？；…")
_REFERENCE = re.compile(
    r"(?:^|[^A-Za-z])(?:figs?|figure|nos?|eqs?|equation|vol|sec|section|ch|chapter|table)\.?[ \t]?\d{1,3}$",
    re.IGNORECASE,
)
_BULLET_LINE = re.compile(
    r"(?:\A|\n)(?P<indent>[ \t]*)(?:(?P<bullet>[-*+•·][ \t]+(?=\S))|(?P<other>[^\s]))(?P<rest>[^\n]*)"
)
_BULLET = re.compile(r"[-*+•·][ \t]+\S")
_LINE = re.compile(r"\n[ \t\r]*(?=\S)")
_EQUATION_LINE = re.compile(r"[a-z]\w{0,9}[ \t]*(?:\([^()\n]{0,20}\))?[ \t]*[=<>≤≥≈]")
_LIST_NUMBER = re.compile(r"(?:^|\n)[ \t>*#-]*\d{1,3}$")
# What stands before and behind a point inside a number that is written with spaces: a decimal or a version in
# Chinese text ("约为1. 5倍", "版本1. 2. 3"), a date ("2024. 1. 2"), a reference ("Section 2. 1").
_SPACED = tuple(
    (re.compile(rf"(?:{left})$"), re.compile(rf"[ \t]{{1,3}}{right}"))
    for left, right in (
        (
            r"(?:^|[\u3400-\u9fff。！？；，、：:;,=＝(（])(?:\d{1,4}[.．][ \t]*){0,3}\d{1,4}",
            r"\d{1,4}(?:[.．][ \t]{0,2}\d{1,4}){0,3}[\u3400-\u9fff%％。，；、)）]",
        ),
        (r"(?:1[89]|2[01])\d\d(?:[.．][ \t]*\d{1,2})?", r"\d{1,2}(?!\d)"),
        (r"(?i:section|chapter|figure|table|version|appendix)[ \t]\d{1,3}", r"\d{1,3}(?![ \t]{0,3}[-+*/=×÷.])"),
    )
)


def is_han(char: str) -> bool:
    return "\u3400" <= char <= "\u9fff"


def weight(text: str) -> int:
    """UTF-8 bytes, so that a Chinese character weighs about what a Latin word of three letters does."""
    return len(text.encode("utf-8", "surrogatepass"))


def is_fragment(text: str) -> bool:
    """Whether a piece is too little to be a step of its own: a heading, or "好的。"."""
    if text.lstrip().startswith("#") and "\n" not in text.strip():
        return True  # a heading belongs to what it heads
    if sum(map(str.isalnum, text[:_BEGINNING])) >= _FRAGMENT:
        return False
    letters = "".join(filter(str.isalnum, text)) if len(text) < 100 else "".join(text.split())
    if len(letters) >= _FRAGMENT:
        return False
    return len(letters) + sum(map(is_han, letters)) < _FRAGMENT and not any(map(str.isdigit, letters))


def _inside_number(text: str, start: int, end: int) -> bool:
    """Whether the point at `[start, end)` stands inside a number or a date that is written with spaces."""
    before = text[max(0, start - 16) : start]
    return any(left.search(before) and right.match(text, end) for left, right in _SPACED)


def _ends_sentence(text: str, match: re.Match[str]) -> bool:
    """Whether a run of end marks ends a sentence: not in a decimal, an abbreviation or a list's number."""
    run, start, end = match.group(), match.start(), match.end()
    if not _ALWAYS_END.isdisjoint(run):
        return True
    following = text[end] if end < len(text) else "\n"
    if run[0] in ".．":
        if run[0] == "．" or (start and is_han(text[start - 1])):
            if not following.isspace() and not is_han(following):
                return False
        elif not following.isspace():
            return False
        before = text[max(0, start - 16) : start]
        if text[end : end + 3].lstrip()[:1].islower() and _REFERENCE.search(before):  # "in Fig. 2. the value"
            return False
        return not (ABBREVIATION.search(before) or _LIST_NUMBER.search(before) or _inside_number(text, start, end))
    return following.isspace() or is_han(following)


def _begins_line(text: str, position: int, line: int) -> bool:
    """Whether a new line begins a sentence; one that continues in lower case is a wrapped sentence."""
    if not text[position].islower() or text[line - 1 : line] in (*".:;!?。：；！？", "\n"):
        return True
    return _EQUATION_LINE.match(text, position) is not None


def _nested_bullets(text: str) -> set[int]:
    """Where the bullets begin that stand below one of several bullets: parts of an item, as in a numbered list."""
    nested: set[int] = set()
    if not _BULLET.search(text):
        return nested
    below: set[int] = set()
    top = count = least = 0  # the indent of the list's own bullets, how many there are, and how many it needs
    for match in _BULLET_LINE.finditer(text):
        bullet, indent = match.start("bullet"), match.end("indent") - match.start("indent")
        if bullet >= 0 and count and indent > top:
            below.add(bullet)
            continue
        if bullet < 0 and indent > 0:
            continue  # a line that continues an item
        if bullet < 0 or not count or indent < top:
            nested |= below if count >= least else set()
            below, top, count, least = set(), indent, 0, 2
        if bullet >= 0:
            count += 1
            # 解题过程如下：what a single heading announces are the steps
            least = 3 if match["rest"].rstrip(" *").endswith((":", "：")) else least
    return nested | below if count >= least else nested


def sentence_starts(text: str, blocked: bytearray) -> list[int]:
    """Positions where a sentence begins, the first one left out, in order.

    Args:
        text: The chain.
        blocked: One byte a character; positions that are not 0 are passed over.
    """
    starts: set[int] = set()
    for match in _SENTENCE_END.finditer(text):
        if _ends_sentence(text, match):
            space = SPACE.match(text, match.end())
            starts.add(space.end() if space else match.end())
    for match in _LINE.finditer(text):
        if _begins_line(text, match.end(), match.start()):
            starts.add(match.end())
    starts -= _nested_bullets(text)
    return sorted(position for position in starts if 0 < position < len(text) and not blocked[position])
