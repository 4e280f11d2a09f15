"""Units: what they measure, how large they are, and quantities in several of them (3元5角, 1小时30分钟)."""

import re
from fractions import Fraction

# What a unit counts in, and how many of the smallest unit it is.
UNITS: dict[str, tuple[str, Fraction]] = {}
for _dimension, _sizes in {
    "length": "毫米/mm 1 厘米/公分/cm/centimeter/centimetre 10 分米/dm 100 米/公尺/m/meter/metre 1000 里 500000 "
    "千米/公里/km/kilometer/kilometre 1000000",
    "length in feet": "英寸/inch/inches/in 1 英尺/foot/feet/ft 12 码/yard/yd 36 英里/mile/mi 63360",
    "mass": "毫克/mg 1 克/g/gram 1000 两 50000 斤 500000 千克/公斤/kg/kilogram 1000000 吨/t/ton/tonne 1000000000",
    "mass in pounds": "盎司/ounce/oz 1 磅/pound/lb 16",
    "time": "毫秒/ms 1 秒/秒钟/s/sec/second 1000 分/分钟/min/minute 60000 刻钟 900000 "
    "小时/个小时/时/钟头/h/hr/hour 3600000 天/日/day 86400000 周/星期/个星期/week 604800000",
    "months": "月/个月/month 1 年/year 12",
    "money": "分钱 1 角/毛 10 元/块/块钱/圆/人民币/yuan 100",
    "dollars": "美分/cent 1 美元/dollar 100",
    "area": "平方毫米/mm2 1 平方厘米/cm2 100 平方分米/dm2 10000 平方米/平米/m2 1000000 公顷/hectare 10000000000 "
    "平方千米/平方公里/km2 1000000000000",
    "volume": "立方毫米/mm3 1 毫升/立方厘米/ml/cm3/milliliter 1000 升/立方分米/l/dm3/liter/litre 1000000 "
    "立方米/m3 1000000000",
}.items():
    _words = re.split(r"\s(?=\d)|(?<=\d)\s", _sizes)
    for _names, _size in zip(_words[::2], _words[1::2], strict=True):
        for _name in _names.split("/"):
            UNITS[_name] = (_dimension, Fraction(_size))
            if len(_name) > 3 and _name.isascii() and _name not in ("inch", "inches", "feet"):
                UNITS[_name + "s"] = UNITS[_name]
# 分 is a minute, a hundredth of a 元, and a mark.
_SEVERAL = {"分": [UNITS["分"], UNITS["分钱"], ("marks", Fraction(1))]}
_NAMES = sorted(UNITS, key=len, reverse=True)
_CHINESE = "|".join(name for name in _NAMES if not name.isascii())
_LATIN = "|".join(name for name in _NAMES if name.isascii())
_UNIT = rf"(?:{_CHINESE}|(?:{_LATIN})(?![A-Za-z]))"
_NUMBER = r"\d+(?:\.\d+)?"
_SPELLED = re.compile(r"(square|cubic|sq\.?|cu\.?)\s+([a-z]+)")
_POWER = re.compile(r"\^?\{?([23])\}?$")
_LOOSE = {"元", "块", "米", "角", "公斤", "千克"}
COMPOUND = re.compile(
    rf"({_NUMBER})\s*({_UNIT})((?:\s*(?:零|又|和|and|,)?\s*{_NUMBER}\s*{_UNIT})+(?![\u4e00-\u9fff]?\d)|零?\d{{1,2}}(?![\d.]|\s*[\u4e00-\u9fffA-Za-z/%]))"
)
_PART = re.compile(rf"({_NUMBER})\s*({_UNIT})")
# After a number these begin another word: 3角形, 4分之, 5元素.
_OTHER_WORD = re.compile(r"[形素使候饭数之析别配布期度钟]|元[一二三]?次")


def known_unit(word: str) -> str:
    """The unit that a run of characters starts with (米的绳子 -> 米, km/h -> km/h), or nothing."""
    word = _plain(word)
    if not word or word in UNITS:
        return word
    head, slash, tail = word.partition("/")
    if slash:
        head, tail = known_unit(head), known_unit(tail)
        return f"{head}/{tail}" if head and tail else ""
    if word[0].isascii():
        return ""
    name = next((name for name in _NAMES if word.startswith(name)), "")
    return "" if not name or _OTHER_WORD.match(word[len(name) :]) else name


def _plain(word: str) -> str:
    word = _SPELLED.sub(lambda match: match[2] + ("2" if match[1].startswith("s") else "3"), word.strip().lower())
    word = _POWER.sub(r"\1", word).replace("²", "2").replace("³", "3").replace("每", "/")
    for name, short in (("meters", "m"), ("metres", "m"), ("meter", "m"), ("centimeters", "cm"), ("kilometers", "km")):
        if word in (name + "2", name + "3"):
            word = short + word[-1]
    return word


def measures(word: str) -> list[tuple[str, Fraction]]:
    """What a unit may measure, with its size; empty for a word that is no unit (本, apples)."""
    name = known_unit(word)
    if name in _SEVERAL:
        return _SEVERAL[name]
    if name in UNITS:
        return [UNITS[name]]
    head, slash, tail = name.partition("/")
    if not slash:
        return []
    return [(f"{one}/{other}", size / per) for one, size in measures(head) for other, per in measures(tail)]


def compound(match: re.Match[str]) -> tuple[Fraction, str, Fraction] | None:
    """A match of `COMPOUND` as its value in the first unit, that unit, and its value in the last unit.

    `None` where the units do not measure the same or do not descend (12米3个).
    """
    first = _plain(match[2])
    dimension, size = UNITS[first]
    if first == "分" and "秒" not in match[3] and "s" not in match[3]:
        dimension, size = "money", Fraction(1)
    total, last = Fraction(match[1]) * size, size
    parts = list(_PART.finditer(match[3]))
    if not parts:
        # 3块5 and 1米75
        if first not in _LOOSE or "零" in match[3]:
            return None
        digits = match[3].strip()
        if len(digits) > 1 and first != "米":
            return None
        value = Fraction(match[1]) + Fraction(int(digits), 10 ** len(digits))
        return value, first, value
    for part in parts:
        name = _plain(part[2])
        found, step = UNITS[name]
        if dimension == "money" and name == "分":
            found, step = UNITS["分钱"]
        elif dimension == "time" and name == "m":
            found, step = UNITS["min"]
        if found != dimension or step >= last:
            return None
        total, last = total + Fraction(part[1]) * step, step
    return total / size, first, total / last
