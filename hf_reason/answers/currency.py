"""Signs and codes of currencies as a unit after the amount: $12 -> 12美元, RMB 100 -> 100元."""

import re

_NAMES = {
    "HK$": "港元",
    "NT$": "新台币",
    "US$": "美元",
    "$": "美元",
    "¥": "元",
    "€": "欧元",
    "£": "英镑",
    "USD": "美元",
    "RMB": "元",
    "CNY": "元",
    "EUR": "欧元",
    "GBP": "英镑",
    "JPY": "日元",
    "HKD": "港元",
}
_NAMED_BEFORE = re.compile(
    r"(?<![\u4e00-\u9fff])(港币|新台币|台币|日币|美金|欧元|英镑|日元|美元)\s*(\d[\d,]*(?:\.\d+)?\s*[万亿]?|[零一壹二贰两三叁四肆五伍六陆七柒八捌九玖十拾百佰千仟万亿]+)\s*[元圆]?整?(?![\d.,\u4e00-\u9fff])"
)
_PLAIN_NAMES = {"港币": "港元", "台币": "新台币", "日币": "日元", "美金": "美元"}
_SCALES = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion"}
_AMOUNT = (
    r"(\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)"
    r"(\s*(?:万亿|[万亿]|(?:thousand|million|billion|trillion)s?\b|(?:[kKmMbB]|mn|bn)(?![A-Za-z])))?"
)
_BEFORE = re.compile(rf"(-?)((?:HK|NT|US)\\?\$|\\?\$|[¥€£]|\b(?:USD|RMB|CNY|EUR|GBP|JPY|HKD)\s?)\s*{_AMOUNT}")
# Text between dollar signs is a formula; words there say that they are prices.
_PROSE = re.compile(r"[A-Za-z]{2,}\s+[A-Za-z]{2,}|[\u4e00-\u9fff，。]{2}|[.?!]\s|,\s+[A-Za-z]{2}")
_DOLLAR = re.compile(r"(?<!\\)\$+")
_FULL_WIDTH = str.maketrans("￥＄￡０１２３４５６７８９", "¥$£0123456789")
_FULL_WIDTH_POINT = re.compile(r"(?<=\d)．(?=\d)")


def _behind(match: re.Match[str]) -> str:
    sign, name, amount, scale = match.groups()
    scale = (scale or "").strip()
    name = _NAMES[name.strip().replace("\\", "")]
    return f"{sign}{amount}{' ' if scale.isascii() and scale else ''}{_SCALES.get(scale.lower(), scale)}{name}"


def _prices(text: str) -> set[int]:
    """Where bare dollar signs stand for money: before a number, and not around a formula of the same line."""
    found: set[int] = set()
    signs = [match for match in _DOLLAR.finditer(text) if len(match[0]) == 1]
    at = 0
    while at < len(signs):
        start = signs[at].end()
        end = signs[at + 1].start() if at + 1 < len(signs) else -1
        if end < 0 or "\n" in text[start:end] or _PROSE.search(text, start, end):
            found.add(signs[at].start())
            at += 1
        else:
            at += 2
    return found


def amounts(text: str) -> str:
    """`text` with every currency sign as a unit behind its amount; dollar signs around a formula stay."""
    text = _NAMED_BEFORE.sub(lambda match: f"{match[2]}{_PLAIN_NAMES.get(match[1], match[1])}", text)
    if not re.search(r"[$¥€£￥＄￡¢]|\b[A-Z]{3}\b", text):
        return text
    text = _FULL_WIDTH_POINT.sub(".", text.translate(_FULL_WIDTH)).replace("¢", "美分")
    prices = _prices(text)
    return _BEFORE.sub(
        lambda match: match[0] if match[2] == "$" and match.start(2) not in prices else _behind(match), text
    )
