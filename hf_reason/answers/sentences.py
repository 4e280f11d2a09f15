"""Values inside of a sentence: several of them, times, dates, ratios, quotients with a remainder."""

import re

from .clock import find_ratio, read_time
from .compare import same
from .compare_kinds import KINDS
from .dates import read_date
from .forms import numbers_in
from .reading import read, split_top
from .remainders import read_remainder
from .values import Date, Group, Named, Number, Ratio, Remainder, Time, Value, Words

# The numbers of a condition are no results: 当x=2时取最小值-1.
_CONDITION = re.compile(r"当.{1,20}时|\b(?:when|if)\b", re.IGNORECASE)
_MAX_TEXT = 60


def match_list(part: str, reference: Group) -> bool | None:
    """The numbers of a sentence against a list: it must name as many as asked for."""
    if (
        reference.kind == "tuple"
        or _CONDITION.search(part)
        or not all(isinstance(item, Number) for item in reference.items)
    ):
        return None
    found = [stated for piece in split_top(part) for stated in numbers_in(piece)]
    if len(found) == len(reference.items):
        verdict = same(Group("list", tuple(map(Number, found))), Group("list", reference.items))
        return verdict if verdict or len(part) <= _MAX_TEXT else None
    return False if len(found) == 1 else None


def match_named(answer: str, reference: Named) -> bool | None:
    """Look for each name of the reference in the answer: 鸡有18只,兔有12只."""
    verdicts = []
    for name, wanted in reference.items:
        head = re.escape(name) if not name.isascii() else rf"(?<![A-Za-z\\]){re.escape(name)}"
        after = re.findall(
            rf"{head}(?:子|的?(?:只数|数量|个数|人数|只|年龄|价格|单价|高度?|长度?|速度|体重|身高|面积|成绩|得分))?\s*(?:有|是|为|共|=|:|：)?\s*([^,，;；。、\n]+)",
            answer[-1000:],
        )
        values = [read(text.strip()) for text in after]
        values = [value for value in values if not isinstance(value, Words)]
        if not values:
            return None
        verdicts.append(same(values[-1], wanted))
    return False if False in verdicts else None if None in verdicts else True


def match_kind(part: str, reference: KINDS) -> bool | None:
    """A time, a date or a remainder somewhere in a sentence."""
    found: Value | None = None
    if isinstance(reference, Time):
        found = read_time(part, anywhere=True)
    elif isinstance(reference, Ratio):
        found = (read_time(part, anywhere=True) if reference.time else None) or find_ratio(part)
    elif isinstance(reference, Date):
        found = read_date(part, anywhere=True)
    elif isinstance(reference, Remainder):
        found = read_remainder(part, anywhere=True)
    return None if found is None else same(found, reference)
