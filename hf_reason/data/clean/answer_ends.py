"""Does an answer end in the middle, or does it run in a loop? Only sure signs count: what may be right is kept."""

import re

from hf_reason.data.read.code_fences import code_fences, open_fence

_INLINE_CODE = re.compile(r"`[^`\n]+`")
_BEGIN_END = re.compile(r"\\(begin|end)\{(\w+\*?)\}")
_ESCAPED = re.compile(r"\\\\|\\[{}$]")
# A line this short may end as it likes: "Best regards," closes a letter.
_SHORT = 20
# What a colon announces is missing; a shorter line may be a label.
_ANNOUNCED = re.compile(r"[^\n]{7}[:：]\Z")
_COMMA = re.compile(r"[,，、]\Z")
# Only words that no sentence can end with: 总和, 正确的 and "made of" can.
_CONNECTIVE = re.compile(
    r"(?:因为|因為|由于|由於|(?<!乎)所以|但是|并且|並且|而且|以及|如果|例如|比如|虽然|雖然|即使|对于|對於)\Z"
    r"|\b(?:the|an|and|or|because)\Z"
)
_FEWEST_WORDS = 6

# What repeats by its nature: tables, matrices, rules, long numbers.
_TABLE_ROW = re.compile(r"^[ \t]*\|.*$|^.*\|[ \t]*$|^.*\t.*\t.*$", re.MULTILINE)
_MATRIX = re.compile(r"\\begin\{(\w*matrix|array|tabular|cases|aligned?)\*?\}.{0,4000}?\\end\{\1\*?\}", re.DOTALL)
_LONG_NUMBER = re.compile(r"[\d.,]{8,}")
_RULE = re.compile(r"([^\w\s]|_)\1{3,}")
_LETTERS = re.compile(r"[^\W\d_]{2}")
# A loop: the end of the answer is at least this many characters, the same ones at least this many times.
_LOOP_CHARS = 120
_LOOP_TIMES = 5
# A paragraph need not come as often.
_PARAGRAPH, _PARAGRAPH_TIMES = 100, 3
_LONGEST_PERIOD = 1500
_SAMPLE = 8
_EQUAL_LINES = 50


def ends_in_the_middle(answer: str) -> bool:
    """Whether an answer is cut: in a listing, a formula or a sentence.

    The signs are a code fence, `$$`, `\\[`, `\\begin` or `\\boxed{` that nothing closes, a colon at the end, and a
    last word that cannot end a sentence (a comma, "and", 因为, ...) in a line that is not short.
    """
    answer = answer.strip()
    if open_fence(answer) is not None:
        return True
    text = _INLINE_CODE.sub("x", _without_code(answer, "x")).strip()
    if _open_formula(text) or _ANNOUNCED.search(text):
        return True
    if len(text[text.rfind("\n") + 1 :]) < _SHORT:
        return False
    if _COMMA.search(text):
        return True
    last = _CONNECTIVE.search(text)
    return last is not None and (not last.group().isascii() or len(text.split()) >= _FEWEST_WORDS)


def _without_code(text: str, instead: str = "") -> str:
    parts, position = [], 0
    for start, end in code_fences(text):
        parts += [text[position:start], instead]
        position = end
    return "".join([*parts, text[position:]])


def _open_formula(text: str) -> bool:
    if "$" not in text and "\\" not in text:
        return False
    plain = _ESCAPED.sub("", text)
    if plain.count("$$") % 2 or plain.count("\\[") > plain.count("\\]"):
        return True
    depth = 0
    for kind, _ in _BEGIN_END.findall(text):
        depth += 1 if kind == "begin" else -1
    return depth > 0 or _open_box(plain)


def _open_box(plain: str) -> bool:
    start = plain.rfind("\\boxed{")
    if start < 0:
        return False
    rest = plain[start + len("\\boxed") :]
    return rest.count("{") > rest.count("}")


def prose_of(answer: str) -> str:
    """An answer without what repeats by its nature: listings, tables, matrices, rules and long numbers."""
    text = _MATRIX.sub("", _TABLE_ROW.sub("", _without_code(answer)))
    return _RULE.sub("", _LONG_NUMBER.sub("0", text))


def runs_in_a_loop(answer: str) -> bool:
    """Whether an answer says the same again and again, up to its end or in many equal lines."""
    return _many_equal_lines(answer) or _loops_at_the_end("".join(prose_of(answer).split()))


def _many_equal_lines(text: str) -> bool:
    count, last = 0, ""
    for line in filter(None, map(str.strip, text.splitlines())):
        count, last = (count + 1 if line == last else 1), line
        if count >= _EQUAL_LINES and _LETTERS.search(line):
            return True
    return False


def _loops_at_the_end(text: str) -> bool:
    """Whether `text` ends in the same characters over and over (the last time perhaps not whole)."""
    ending = text[-_SAMPLE:]
    for period in range(1, min(_LONGEST_PERIOD, len(text) // _PARAGRAPH_TIMES) + 1):
        if text[-_SAMPLE - period : -period] != ending:  # nearly always, and cheaper than the comparison below
            continue
        times = _LOOP_TIMES if period < _PARAGRAPH else _PARAGRAPH_TIMES
        least = max(_LOOP_CHARS, times * period)
        if len(text) >= least and text[-least:-period] == text[-least + period :]:
            return _LETTERS.search(text[-least:]) is not None
    return False
