"""Read a short text as the value that it states; the surest reading first."""

import re
from dataclasses import replace

from .clock import read_ratio, read_time
from .dates import read_date
from .forms import MARKED, pure_number
from .normalise import undressed
from .parts import numbered_parts, rate, without_leads
from .regions import read_region, read_spread
from .remainders import read_remainder
from .spoken import formulas
from .symbolic import numeric
from .values import Group, Named, Number, Real, Region, Symbol, Value, Words

_NAMED = re.compile(
    r"^(∠\d|[∠△]?\\?[A-Za-z]+(?:_\{?\w{1,3}\}?|\d)?|[A-Za-z]\([A-Za-z\d]{1,2}\)|\|[A-Z]{2}\||[αβγδθλμφω]|[\u4e00-\u9fff]{1,6}?)\s*(?:=|:|是|为|有)\s*(?![=:])(.+)$",
    re.DOTALL,
)
_COUNTED = re.compile(
    r"^((?![^\d]*[了共需买卖花付用剩每还])[\u4e00-\u9fff]{1,6}?)(?:有|是|为|共)?\s*(-?\d.*)$", re.DOTALL
)
_NAMES = re.compile(r"^[(（]\s*(\\?[A-Za-z]\w{0,2}(?:\s*,\s*\\?[A-Za-z]\w{0,2})+)\s*[)）]\s*=\s*(.+)$", re.DOTALL)
_SEPARATOR = re.compile(
    r"[;；、]|,(?!\d{3}(?!\d))|(?<!\d),|,(?=\s)|，|\s(?:and|or)\s|[和与及或]|(?<=[)\]])\s*(?:and|or)\s*(?=[(\[])|\s+(?=\\?[A-Za-z](?:_?\w)?\s*=)"
)
_CASES = re.compile(r"[;；]|或者?|\s+or\s+")
# What may stand before an equals sign without being a part of the result: a name, a ratio of names, bare arithmetic.
_LEFT_SIDE = re.compile(
    r"^(?:[A-Za-z\\_{}\d:|△∠°\s()']*[A-Za-z][A-Za-z\\_{}\d:|△∠°\s()']*|[^A-Za-z]+|[^A-Za-z]*\\frac[^A-Za-z]*)$"
)
# A(1,2): a named point.
_NAMED_POINT = re.compile(r"^([A-Z]['′]?\d?)\s*(\([^()]*,[^()]*\))$")
# Names of roots, which have no order; a_1 and a_2, or v_1 and v_2, have one.
_ROOTS = frozenset("xyztkmn")
_ROOT_NAME = re.compile(r"^([A-Za-z]+?)\d*$")
_MATHEMATICAL = re.compile(r"[\\^_=<>√π∞∪∩{}]|[+*/-].*[A-Za-z]|[A-Za-z].*[+*/-]|^[a-z]$|^[\[(].*,.*[\])]$|\d[a-z]")
_TRAILING_UNIT = re.compile(
    r"(?<=[\d)}π\s])\s*((?:[\u4e00-\u9fff]{1,6}(?:/[\u4e00-\u9fff]+)?|\s[A-Za-z]{3,12}|(?<![a-z\\])[cdkm]?m)(?:\^\{?[23]\}?)?)$"
)
_ROWS = re.compile(r"^\[\s*(?:\[[^\[\]]*\]\s*,?\s*){1,20}\]$")
_MATRIX = re.compile(r"^\(?\s*\\begin\{([pbvBV]?matrix|array)\}(.*?)\\end\{\1\}\s*\)?$", re.DOTALL)
_MAX_ITEMS = 20
_GREEK = dict(
    zip("αβγδθλμφω", ["alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "phi", "omega"], strict=True)
)


def split_top(text: str, cases: bool = False) -> list[str]:
    """The parts of a list, split where no bracket is open; of `cases`, only semicolons and 或 separate."""
    depth, parts, start = 0, [], 0
    ends = {match.start(): match for match in (_CASES if cases else _SEPARATOR).finditer(text)}
    at = 0
    while at < len(text):
        char = text[at]
        depth += (char in "([{（") - (char in ")]}）")
        if depth == 0 and at in ends:
            parts.append(text[start:at])
            at = start = max(ends[at].end(), at + 1)
            continue
        at += 1
    parts.append(text[start:])
    return [part.strip(" ,，.。;") for part in parts if part.strip(" ,，.。;")]


def _inside(text: str) -> str | None:
    """What is between the brackets of a text that is one pair of brackets."""
    if len(text) < 2 or text[0] + text[-1] not in ("()", "{}", "[]"):
        return None
    depth = 0
    for at, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0:
            return text[1:-1] if at == len(text) - 1 else None
    return None


def _items(text: str) -> list[str]:
    """The items of a bracket: every comma separates."""
    return split_top(re.sub(r",(?=\S)", ", ", text))


def _plain_name(name: str) -> str:
    return _GREEK.get(name, re.sub(r"[\\_{}\s]", "", name))


def _as_named(parts: list[str]) -> Named | Group | None:
    """Unknowns with values; roots of one unknown (x_1=3, x_2=5) are a list without order."""
    found: list[tuple[str, Value]] = []
    for part in parts:
        match = _NAMED_POINT.match(part) or _NAMED.match(part) or _COUNTED.match(part)
        if match is None:
            return None
        value = read(match[2], nested=True)
        if isinstance(value, Words) or (isinstance(value, Symbol) and not match[1].isascii()):
            return None
        found.append((_plain_name(match[1]), value))
    bases = {base[1] if (base := _ROOT_NAME.match(name)) else name for name, _ in found}
    if len(found) > 1 and len(bases) == 1 and (bases & _ROOTS or len({name for name, _ in found}) == 1):
        return Group("list", tuple(value for _, value in found))
    return Named(tuple(found))


def _read_matrix(text: str) -> Group | None:
    match = _MATRIX.match(text)
    if match is None and not _ROWS.match(text):
        return None
    if match is None:
        rows = [row.split(",") for row in re.findall(r"\[([^\[\]]+)\]", text[1:-1])]
    else:
        body = re.sub(r"^\{[clr|]+\}", "", match[2].strip())
        rows = [row.split("&") for row in re.split(r"\\\\", body) if row.strip()]
    values = [read(cell, nested=True) for row in rows for cell in row]
    if len({len(row) for row in rows}) != 1 or any(isinstance(value, Words) for value in values):
        return None
    return Group(f"matrix of {len(rows)} rows", tuple(values))


def _flat(values: list[Value]) -> tuple[Value, ...]:
    """The items of a set or a list; 1±√5 stands for two of them."""
    return tuple(
        item
        for value in values
        for item in (value.items if isinstance(value, Group) and value.kind == "list" else [value])
    )


def _read_group(text: str) -> Value | None:
    names = _NAMES.match(text)
    if names:
        paired = read(names[2], nested=True)
        letters = [_plain_name(name) for name in names[1].split(",")]
        if isinstance(paired, Group) and paired.kind == "tuple" and len(paired.items) == len(letters):
            return Named(tuple(zip(letters, paired.items, strict=True)))
        return paired if isinstance(paired, Group) else None
    inner = _inside(text.replace("\\{", "{").replace("\\}", "}").replace("\\lbrace", "{").replace("\\rbrace", "}"))
    if inner is not None and "\\begin" not in text:
        items = _items(inner)
        if 1 <= len(items) <= _MAX_ITEMS and (len(items) > 1 or "{" in text):
            kind = "set" if "{" in text[:2] else "tuple"
            values = [read(item, nested=True) for item in items]
            return (
                None
                if any(isinstance(value, Words) for value in values)
                else Group(kind, tuple(values) if kind == "tuple" else _flat(values))
            )
    numbered = numbered_parts(text)
    if numbered:
        values = [read(part, nested=True) for part in numbered]
        if any(isinstance(value, Words) for value in values):
            return None
        return Named(tuple((str(number), value) for number, value in enumerate(values, 1)))
    cases = split_top(text, cases=True)
    parts = cases if len(cases) > 1 and "," in text else split_top(text)
    if parts == cases and all(_as_named(split_top(part)) is None for part in parts):
        parts = split_top(text)
    if not 2 <= len(parts) <= _MAX_ITEMS:
        return None
    named = None if parts == cases != split_top(text) else _as_named(parts)
    if named is not None:
        return named
    first = re.match(r"^(\\?[A-Za-z]\w{0,2})\s*=\s*(.+)$", parts[0])
    if first and not any("=" in part for part in parts[1:]):
        parts[0] = first[2]
    values = [read(part, nested=True) for part in parts]
    return None if any(isinstance(value, Words) for value in values) else Group("list", _flat(values))


def _plus_minus(text: str) -> Group | None:
    """±3, 1±√2: two values."""
    plain = text.replace("\\pm", "±")
    if plain.count("±") != 1:
        return None
    values = [read(re.sub(r"(?<=[(,\[])\s*\+", "", plain.replace("±", sign)), nested=True) for sign in ("+", "-")]
    return Group("list", tuple(values)) if all(isinstance(value, Number | Real | Group) for value in values) else None


def _read_real(text: str) -> Real | None:
    """A closed form, with a name before and a unit after it."""
    bare = re.sub(r"^\s*(?:\\?[A-Za-z]{1,3}(?:_\{?\w\}?)?(?:\([A-Za-z]\))?|[\u4e00-\u9fff]{1,10})\s*=\s*", "", text)
    value = numeric(bare)
    if value is not None:
        return Real(value, bare)
    unit = _TRAILING_UNIT.search(bare)
    value = numeric(bare[: unit.start()]) if unit else None
    return None if value is None or unit is None else Real(value, bare, unit[1].strip())


def _last_side(text: str, sides: list[str]) -> Value | None:
    """The value at the end of x=3+4=7 and of 血糖5.6mmol/L, where the rest only says what it is."""
    if len(sides) > 2 or (len(sides) == 2 and _LEFT_SIDE.match(sides[0])):
        last = read(sides[-1], nested=True)
        return None if isinstance(last, Words | Symbol) else last
    match = _NAMED.match(text) or _COUNTED.match(text) if len(sides) == 1 else None
    quantity = pure_number(match[2]) if match and not match[1].startswith("\\") and len(match[1]) > 1 else None
    return Number(quantity) if quantity and quantity.unit and quantity.unit[0].isascii() else None


def read(text: str, nested: bool = False) -> Value:
    """The value of a text that is nothing but an answer; `Words` for prose."""
    bare = undressed(text) if len(text) <= 1000 else ""
    plain = rate(formulas(without_leads(bare)))
    text = text if plain == bare else plain
    if not plain or len(plain) > 500 or MARKED.match(plain) or plain.startswith(("因为", "由于")):
        return Words(text)
    time = read_time(plain)
    if time is not None:
        return time
    other = read_date(plain) or read_remainder(plain)
    if other is not None:
        return other
    spread = read_spread(plain)
    if spread is not None:
        return Region(*spread, text)
    stated = pure_number(plain)
    if stated is not None:
        return _with_name(plain, Number(stated))
    ratio = read_ratio(plain)
    if ratio is not None:
        return ratio
    region = read_region(plain)
    if region is not None:
        return Region(*region, text)
    two = _plus_minus(plain)
    if two is not None:
        return two
    real = _read_real(plain)
    if real is not None:
        return _with_name(plain, Real(real.value, real.text, real.unit))
    group = _read_matrix(plain) or _read_group(plain)
    if isinstance(group, Group | Named):
        return replace(group, text=text)
    sides = re.split(r"=", plain)
    if len(sides) > 2 and any(len(split_top(side)) > 1 for side in sides[1:-1]):
        return Words(text)
    last = _last_side(plain, sides)
    if last is not None:
        return last
    if _MATHEMATICAL.search(plain) and not re.search(r"[\u4e00-\u9fff]{3}", plain) and not _is_prose(text):
        return Symbol(text)
    return Words(text)


def _is_prose(text: str) -> bool:
    """English words outside of LaTeX commands and `\\text`."""
    bare = re.sub(
        r"\\text\s*\{[^{}]*\}|\\[A-Za-z]+(?:\s*\{[a-z]*matrix\})?|\$[^$]*\$|\\\(.*?\\\)", " ", text, flags=re.DOTALL
    )
    return len(re.findall(r"[A-Za-z]{3,}|[A-Za-z]{2,}'[a-z]", bare)) >= 2


def _with_name(text: str, value: "Number | Real") -> Value:
    match = re.match(r"^\s*(\\?[A-Za-z](?:_\{?\w\}?|\d)?)\s*=", text)
    return Named(((_plain_name(match[1]), value),)) if match else value
