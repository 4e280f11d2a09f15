"""Answers in words: yes and no, no solution, the same words in another writing, and words that say the opposite."""

import re

from .final import final_part
from .normalise import fold, undressed
from .numerals import NUMERAL, chinese_number, in_digits, written

_SAYS_YES = "是 对 正确 对的 是的 可以 能 真 √ ✓ ✔ ☑ ✅ 成立 会 有 正确的 没错 属实 yes true correct right"
_SAYS_NO = (
    "否 不 不是 错 错误 错的 不对 不正确 不可以 不能 假 × ✗ ✘ ❌ ✕ 不成立 不会 没有 错误的 有误 不属实 "
    "no false incorrect wrong"
)
YES, NO = frozenset(_SAYS_YES.split()), frozenset(_SAYS_NO.split())
_BARE = re.compile(r"[\s，。、；：！？,.;:!?'\"“”‘’`*$（）()【】\[\]{}《》「」]+")
_CLAUSES = re.compile(r"[,，。.;；!！\s]+")
_SUBJECT = r"(?:此|该|原|这个|本|此题|这道)?(?:题|(?:分式|一元二次)?方程组?|不等式组?)?"
_NOTHING = re.compile(
    rf"{_SUBJECT}(?:(?:没有|无)(?:实数?|实|整数|正整数|有理数)?(?:解|根)|解不存在)"
    r"|(?:极限|最大值|最小值|这样的\w{0,6}|满足\w{0,8}的\w{0,6})?不存在(?:的)?|(?:解集)?(?:为|是)?空集|∅|φ"
    r"|(?:thereis|thereare|has|ithas|theequationhas)?no(?:real|integer|such|valid)?"
    r"(?:solutions?|roots?|values?)(?:exists?)?"
    r"|(?:the\w{0,20})?(?:doesnotexist|doesn'texist)|dne|(?:the)?emptyset|none|undefined"
)
_EVERYTHING = re.compile(
    rf"{_SUBJECT}(?:的解)?有?(?:无数|无穷多|无限多|无穷)(?:多)?(?:个|组)?(?:解)?"
    r"|(?:thereare|has|ithas)?infinite(?:ly)?(?:many)?(?:solutions?)?"
)
_SIGNS = re.compile(r"^\\(?:times|checkmark)(?![a-z])")
_SET_SIGNS = re.compile(r"\\(?:emptyset|varnothing)")
# Words that say the opposite of each other, inside of texts that are otherwise the same.
_PAIRS = (
    "有罪/无罪,有效/无效,阳性/阴性,阳/阴,增加/减少,增大/减小,上升/下降,升高/降低,上涨/下跌,急性/慢性,原告/被告,胜诉/败诉,"
    "合法/违法,合法/非法,良性/恶性,左/右,东/西,南/北,上/下,大/小,多/少,高/低,快/慢,长/短,奇数/偶数,正/负,真/假,有/没有,"
    "有/无,盈利/亏损,牛市/熊市,买入/卖出,肯定/否定,内/外,前/后,增函数/减函数,递增/递减,顺时针/逆时针,同意/反对,支持/反对,"
    "收敛/发散,充分/必要,increase/decrease,positive/negative,valid/invalid,guilty/innocent,rise/fall,legal/illegal,"
    "up/down,left/right,even/odd,convergent/divergent,converges/diverges,benign/malignant,acute/chronic"
)
_OPPOSITES = [pair.split("/") for pair in _PAIRS.split(",")]
_NEGATION = re.compile(r"(?:不|没有|没|未|非|无)(?!论|管|等式|定积分|锈钢)|\b(?:not|isn't|is not|doesn't|never)\b")
_APART = re.compile(r"(?<=\d)\s+(?=\d)")
_ORDINAL = re.compile(rf"(?<=第)({NUMERAL}+)")
_CHEMICAL = re.compile(r"^(?=.*[A-Z])(?:[A-Z][a-z]?(?:_?\{?\d{1,3}\}?)?|[()·])+(?:\^?\{?\d?[+-]\}?)?$")
_FORMULA = re.compile(r"[\\{}<>=\[\]^_+*/]|\d\s*-|-\s*\d")
_LONG_WORD = re.compile(r"[A-Za-z]{3}|[\u4e00-\u9fff]{2}")
_SHORT_WORD = re.compile(r"(?<![A-Za-z])[A-Za-z]{1,2}(?![A-Za-z])")


def bare(text: str) -> str:
    """A text without white space, punctuation and letter case."""
    return _BARE.sub("", undressed(text)).casefold()


def polarity(text: str) -> bool | None:
    """Whether a text says yes or no, and nothing else."""
    part = _SIGNS.sub(lambda match: "×" if match[0] == "\\times" else "√", final_part(text)[0])
    part = undressed(part).casefold()
    found = {
        True if word in YES else False if word in NO else None
        for clause in (_CLAUSES.split(part) if bare(part) not in YES | NO else [part])
        if (word := bare(clause))
    }
    return found.pop() if len(found) == 1 else None


def _joined(text: str) -> str:
    return "".join(undressed(_SET_SIGNS.sub("∅", text)).casefold().split()).strip("。.!！")


def says_none(text: str) -> bool:
    """Whether a text says that there is no solution, or that what is asked for does not exist."""
    return _NOTHING.fullmatch(_joined(text)) is not None


def says_all(text: str) -> bool:
    """Whether a text says that there are infinitely many solutions."""
    return _EVERYTHING.fullmatch(_joined(text)) is not None


def _in_digits(match: re.Match[str]) -> str:
    try:
        return written(chinese_number(match[0]))
    except ValueError:
        return match[0]


def same_words(answer: str, reference: str) -> bool:
    """The same text up to white space, width, numerals (第十五条 = 第15条), letter case and punctuation of words."""
    if len(answer) > 4 * len(reference) + 200:
        return False
    # 1 1/2 is not 11/2
    left, right = ("".join(_APART.sub("␣", fold(text)).split()).strip("。.$") for text in (answer, reference))
    if left == right != "":
        return True
    if _CHEMICAL.match(left) and _CHEMICAL.match(right):
        return re.sub(r"[_{}^]", "", left) == re.sub(r"[_{}^]", "", right)
    if _FORMULA.search(undressed(answer) + undressed(reference)):
        return False
    digits = re.search(r"\d", left + right)
    if digits and not (_LONG_WORD.search(answer) and _LONG_WORD.search(reference)):
        return False
    # Co is no CO
    if _SHORT_WORD.findall(answer) != _SHORT_WORD.findall(reference) and not digits:
        return bare(answer) == bare(reference) != "" and not _SHORT_WORD.fullmatch(answer.strip())
    answer, reference = (_ORDINAL.sub(_in_digits, text) for text in (answer, reference))
    return bare(in_digits(fold(answer))) == bare(in_digits(fold(reference))) != ""


def other_substance(answer: str, reference: str) -> bool:
    """Whether two short formulas differ by the case of their letters alone: Co is no CO."""
    left, right = (undressed(text) for text in (answer, reference))
    chemical = len(right) <= 4 and _CHEMICAL.match(left) and _CHEMICAL.match(right)
    return bool(chemical) and left != right and left.casefold() == right.casefold()


def opposite_words(answer: str, reference: str) -> bool:
    """Whether two texts differ by a negation or a word of opposite meaning alone (有罪 and 无罪, 构成 and 不构成)."""
    left, right = bare(answer), bare(reference)
    if left == right:
        return False
    for one, other in _OPPOSITES:
        for first, second in ((one, other), (other, one)):
            if first in left and left.replace(first, second, 1) == right:
                return True
    for negated, plain in ((left, right), (right, left)):
        match = _NEGATION.search(negated)
        if match and negated[: match.start()] + negated[match.end() :] == plain:
            return True
    return False
