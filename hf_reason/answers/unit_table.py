"""The table of units: what each one measures and how large it is, as an exact fraction.

Dimensions are products of base dimensions, so that 千米/时, g/cm³ and N/kg compare. Months and days stay apart, and so
do currencies: no fixed factor leads from one to the other. pint was tried: it starts in a second, counts a month as
30.44 days, and knows no Chinese name.
"""

from fractions import Fraction

# (base dimension, exponent), sorted by name.
Dimension = tuple[tuple[str, int], ...]
Measure = tuple[Dimension, Fraction]

# Base dimension: size and names, the smallest unit first. Names with a capital are taken in that case first.
_TABLE = {
    "length": "1e-9 纳米/nm 1e-6 微米/μm/um 0.001 毫米/mm/millimeter/millimetre "
    "0.01 厘米/公分/cm/centimeter/centimetre 0.1 分米/dm 1 米/公尺/m/meter/metre "
    "1000 千米/公里/km/kilometer/kilometre 500 里/华里 10/3 丈 1/3 尺 1/30 寸 "
    "0.0254 英寸/吋/inch/inches/in/\" 0.3048 英尺/呎/foot/feet/ft/' 0.9144 码/yard/yd 1609.344 英里/mile/mi "
    "1852 海里 9460730472580800 光年",
    "mass": "1e-9 微克/μg/ug/mcg 1e-6 毫克/mg/milligram 0.001 克/g/gram 0.05 两 0.5 斤/市斤 "
    "1 千克/公斤/kg/kilogram/kilo 50 担 1000 吨/公吨/t/ton/tonne 0.028349523125 盎司/ounce/oz 0.45359237 磅/pound/lb",
    "time": "1e-9 ns/纳秒 1e-6 μs/us/微秒 0.001 毫秒/ms 1 秒/秒钟/s/sec/second 60 分/分钟/min/minute 900 刻钟 "
    "3600 小时/个小时/时/钟头/个钟头/h/hr/hour 86400 天/日/day 604800 周/星期/个星期/week",
    "months": "1 月/个月/month 3 季度/个季度/quarter 12 年/周年/year/yr 120 decade 1200 世纪/个世纪/century/centuries",
    "money": "0.01 分钱 0.1 角/毛/毛钱 1 元/块/块钱/圆/人民币/元人民币/yuan/rmb/cny",
    "dollars": "0.01 美分/cent/¢ 1 美元/美金/dollar/usd",
    "euros": "1 欧元/euro/eur",
    "pounds": "1 英镑/gbp",
    "yen": "1 日元/日圆/yen/jpy",
    "won": "1 韩元/韩圆/krw",
    "hong kong dollars": "1 港元/港币/hkd",
    "taiwan dollars": "1 新台币/台币/twd",
    "rubles": "1 卢布",
    "rupees": "1 卢比/rupee",
    "bytes": "0.125 比特/bit 1 字节/byte 1024 KB 1048576 MB 1073741824 GB 1099511627776 TB",
    "celsius": "1 摄氏度/℃/°C",
    "fahrenheit": "1 华氏度/℉/°F",
    "kelvin": "1 开尔文/K",
    "degrees": "1/3600 ″/arcsecond 1/60 ′/arcminute 1 度/°/degree/deg",
    "radians": "1 弧度/rad/radian",
    "current": "0.001 毫安/mA 1 安/安培/A/ampere",
    "amount": "1e-6 微摩尔/μmol/umol 0.001 毫摩尔/毫摩/mmol 1 摩尔/摩/mol/mole",
    "times": "1 倍",
}
# Products of base dimensions (in m, kg, s, A, mol).
_PRODUCTS: dict[Dimension, str] = {
    (("length", 2),): "1 平米/平方 10000 公顷/ha/hectare 2000/3 亩 4046.8564224 英亩/acre",
    (("length", 3),): "1e-9 微升/μl/ul 1e-6 毫升/ml/cc/milliliter/millilitre 0.0001 dl 0.001 升/公升/l/liter/litre "
    "1 立方 0.003785411784 加仑/gallon/gal 0.000946352946 夸脱/quart/qt 0.000473176473 品脱/pint "
    "0.0002365882365 cup",
    (("length", 1), ("time", -1)): "1609.344/3600 mph 1000/3600 kmh/kph 1852/3600 节/knot",
    (("length", 1), ("mass", 1), ("time", -2)): "1 牛/牛顿/N/newton 1000 千牛/kN",
    (("length", 2), ("mass", 1), ("time", -2)): "1 焦/焦耳/J/joule 1000 千焦/kJ 4.184 cal 4184 千卡/大卡/kcal "
    "3600000 千瓦时/kWh 3600 瓦时/Wh",
    (("length", 2), ("mass", 1), ("time", -3)): "0.001 毫瓦/mW 1 瓦/瓦特/W/watt 1000 千瓦/kW/kilowatt 1000000 兆瓦/MW",
    (("length", -1), ("mass", 1), ("time", -2)): "1 帕/帕斯卡/Pa/pascal 100 百帕/hPa 1000 千帕/kPa 1000000 兆帕/MPa "
    "100000 bar 101325 标准大气压/atm 133.322387415 毫米汞柱/mmHg",
    (("time", -1),): "1 赫兹/赫/Hz/hertz 1000 千赫/kHz 1000000 兆赫/MHz 1000000000 吉赫/GHz",
    (("current", -1), ("length", 2), ("mass", 1), ("time", -3)): "0.001 毫伏/mV 1 伏/伏特/V/volt 1000 千伏/kV",
    (("current", -2), ("length", 2), ("mass", 1), ("time", -3)): "1 欧/欧姆/Ω/ohm 1000 千欧/kΩ 1000000 兆欧/MΩ",
}
# A word may measure several things: 分 is a minute, a hundredth of a 元, a mark; 度 an angle or a temperature.
_ALSO = {
    "分": (("money", "0.01"), ("degrees", "1/60"), ("marks", "1")),
    "秒": (("degrees", "1/3600"),),
    "′": (("length", "0.3048"),),
    "″": (("length", "0.0254"),),
    "度": (("celsius", "1"), ("fahrenheit", "1"), ("kilowatt hours", "1")),
    "°": (("celsius", "1"), ("fahrenheit", "1")),
    "pound": (("pounds", "1"),),
    "cent": (("euros", "0.01"),),
}


def _size(text: str) -> Fraction:
    upper, _, lower = text.partition("/")
    return Fraction(upper) / Fraction(lower or 1)


def _table() -> dict[str, tuple[Measure, ...]]:
    found: dict[str, tuple[Measure, ...]] = {}
    lines = [(((base, 1),), words) for base, words in _TABLE.items()]
    for dimension, words in [*lines, *_PRODUCTS.items()]:
        parts = words.split()
        for size, names in zip(parts[::2], parts[1::2], strict=True):
            for name in names.split("/"):
                found[name] = ((dimension, _size(size)),)
                plural = name.isalpha() and name.isascii() and name.islower() and not name.endswith(("s", "z", "ch"))
                if plural and len(name) > 1:
                    found[name + "s"] = found[name]
    for name, others in _ALSO.items():
        more = tuple((((base, 1),), Fraction(size)) for base, size in others)
        for written in (name, name + "s") if name.isascii() and name.isalpha() else (name,):
            found[written] = found[written] + more
    return found


# Every name of a unit, with what it may measure; the usual meaning first.
UNITS = _table()
