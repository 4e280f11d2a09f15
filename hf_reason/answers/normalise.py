"""One writing for the same signs: superscripts, full width, traditional characters, LaTeX around a value."""

import re
import unicodedata

_TRADITIONAL = str.maketrans(
    "億萬兩點負貳參陸時鐘後個條張斤噸釐錢塊選項題對錯誤確無實數單雙開閉區間東西紅綠藍黃藥電車長寬為與於從這會來過買賣"
    "給還剩餘總計結論論證解應該華學習國語陳劉張楊黃趙吳鄭馮蔣韓馬運動員邊線圓積積體階層際屬種類龍鳳雞鴨鵝貓豬魚鳥樹葉麥麵飯",
    "亿万两点负贰叁陆时钟后个条张斤吨厘钱块选项题对错误确无实数单双开闭区间东西红绿蓝黄药电车长宽为与于从这会来过买卖"
    "给还剩余总计结论论证解应该华学习国语陈刘张杨黄赵吴郑冯蒋韩马运动员边线圆积积体阶层际属种类龙凤鸡鸭鹅猫猪鱼鸟树叶麦面饭",
)
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_SUPERSCRIPT = re.compile(f"[{''.join(_RAISED)}]+")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUBSCRIPT = re.compile("[₀-₉]+")
_VULGAR = re.compile("[¼-¾⅐-⅞]")
# "\\\\frac" where somebody has escaped a backslash twice.
_ESCAPED = re.compile(r"\\\\(?=[A-Za-z]{2})")
_THIN = re.compile(r"\s*\{,\s*\}\s*|,\s*\\!\s*")
_CIRCLED = re.compile("([①-⑳])")
_WRAPPER = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mbox|textrm|operatorname)\s*\{([^{}]*)\}")
_LAYOUT = re.compile(
    r"\\(?:left|right|displaystyle|qquad|quad|bigl?|bigr?|Bigl?|Bigr?|limits)(?![a-z])"
    r"|\\[,;:! ]|~|<\|\w+\|>"
)


def joined_digits(text: str) -> str:
    """LaTeX's thousands (11,\\! 111 and 14{,}916) without what sets them apart."""
    return _THIN.sub(",", text) if "{" in text or "!" in text else text


def simplified(text: str) -> str:
    """Traditional characters that answers are made of (numerals, units, choices, common names) as simplified ones."""
    return text if text.isascii() else text.translate(_TRADITIONAL)


def _vulgar(match: re.Match[str]) -> str:
    return "(" + unicodedata.normalize("NFKC", match[0]).replace("\u2044", "/") + ")"


def fold(text: str) -> str:
    """NFKC, but 3² stays a power, 2½ a mixed number and ① a mark of its own; subscripts become `_1`."""
    if text.isascii():
        return text
    text = _SUPERSCRIPT.sub(lambda match: "^" + _power("".join(_RAISED[char] for char in match[0])), simplified(text))
    text = _SUBSCRIPT.sub(lambda match: "_" + match[0].translate(_LOWERED), text)
    text = _VULGAR.sub(_vulgar, text)
    parts = [
        part if _CIRCLED.fullmatch(part) else unicodedata.normalize("NFKC", part) for part in _CIRCLED.split(text)
    ]
    return "".join(parts).replace("−", "-").replace("–", "-").replace("˙", "\u0307")


def _power(text: str) -> str:
    return text if len(text) == 1 else "{" + text + "}"


def undressed(text: str) -> str:
    """A formula without the signs around it (`$`, `\\(`) and in it (`\\left`, `\\,`, `\\text{...}`)."""
    text = joined_digits(fold(text))
    if "\\begin" not in text:
        text = _LAYOUT.sub(" ", _ESCAPED.sub(r"\\", text))
    if "\\" in text:
        for _ in range(3):
            text, count = _WRAPPER.subn(r" \1 ", text)
            if not count:
                break
        text = re.sub(r"\\[()\[\]]", " ", text)
    text = (
        text.replace("$", " ").replace("**", " ") if not re.search(r"\*\*\s*[\d(]", text) else text.replace("$", " ")
    )
    text = re.sub(r"\s+\^(?=\{?[23])", "^", text)
    return text.strip(" \t\n。,，;；、").rstrip(" .")
