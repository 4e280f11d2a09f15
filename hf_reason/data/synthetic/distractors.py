"""Distractors: an irrelevant sentence with a number, inserted between the sentences of a problem."""

import random
import re
from typing import Any

from hf_reason.data.languages import cjk_ratio
from hf_reason.data.record import record_id

# (words the sentence is about, the sentence, smallest and largest number). A sentence is not used when the
# record has one of the words, since then it might be read as a part of the problem.
_Distractor = tuple[tuple[str, ...], str, int, int]

_CHINESE: tuple[_Distractor, ...] = (
    (("气温", "温度", "天气", "℃"), "当天的最高气温是{n}摄氏度。", 11, 36),
    (("公交", "汽车", "车站"), "附近的公交站每天有{n}趟末班车经过。", 2, 9),
    (("广播", "电台", "频道"), "收音机里正在播放第{n}套节目。", 2, 19),
    (("报纸", "新闻", "版面"), "桌上的报纸翻到了第{n}版。", 2, 28),
    (("电梯", "楼层", "层楼"), "旁边的大楼一共有{n}层。", 6, 58),
    (("鸽子", "小鸟", "麻雀"), "窗外的屋顶上停着{n}只鸽子。", 3, 47),
    (("电视", "节目", "观众"), "墙上的电视已经用了{n}年。", 2, 17),
    (("邻居", "门牌", "地址"), "隔壁人家的门牌是{n}号。", 11, 980),
    (("日历", "星期", "日期"), "墙上的日历还剩{n}页没有撕。", 3, 240),
    (("足球", "比赛", "球队"), "上周的足球赛有{n}名记者到场。", 12, 96),
    (("湖", "公园", "长椅"), "对面的公园里有{n}张长椅。", 13, 95),
    (("路灯", "街道", "马路"), "门前的街道上装着{n}盏路灯。", 14, 97),
)
_ENGLISH: tuple[_Distractor, ...] = (
    (("temperature", "weather", "degree"), "The temperature outside was {n} degrees that day.", 41, 96),
    (("bus", "route", "station"), "The bus on route {n} stops around the corner.", 11, 89),
    (("radio", "song", "music"), "The radio was playing song number {n} of the charts.", 3, 40),
    (("newspaper", "page", "article"), "A newspaper lay open at page {n}.", 2, 48),
    (("building", "floor", "stor"), "The building next door has {n} floors.", 6, 58),
    (("pigeon", "bird", "roof"), "There were {n} pigeons on the roof opposite.", 3, 47),
    (("television", "screen", "watch"), "The television on the wall was {n} years old.", 2, 17),
    (("neighbor", "neighbour", "house"), "The neighbour lives at house number {n}.", 11, 980),
    (("calendar", "week", "month"), "A calendar on the wall had {n} pages left.", 3, 240),
    (("football", "match", "game"), "Last week's football match drew {n} reporters.", 12, 96),
    (("park", "bench"), "The park across the street has {n} benches.", 13, 95),
    (("street", "lamp", "light"), "The street outside is lit by {n} lamps.", 14, 97),
)

_OPENING, _CLOSING = "“‘「『《（(【[{", "”’」』》）)】]}"
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Prof|No|Fig|Eq|vs|etc|approx|Jr|Sr|Inc|Co)|\b[A-Za-z])$")
# Spans that no sentence may be put into: code, formulas, tables.
_CLOSED_SPANS = re.compile(r"```.*?(?:```|\Z)|\$\$.*?\$\$|\$[^$\n]*\$|\\\[.*?\\\]|\\\(.*?\\\)|(?m:^\s*\|.*$)", re.S)
# Where the question begins: nothing is inserted after this point. Choices (A. ...) belong to the question.
_ASKS = re.compile(
    r"[?？]|多少|求|是否|\b(?:how (?:many|much)|find|calculate|compute|determine|solve|evaluate|prove)\b"
    r"|^\s*[(（]?[A-HＡ-Ｈ][)）.．、:：]",
    re.I | re.M,
)


def sentence_starts(text: str) -> list[int]:
    """Offsets in `text` at which a sentence begins, 0 among them.

    A sentence ends at `。！？`, at one of `.．!?` that is followed by white space or a Chinese character (so not
    inside 3.5 or e.g.), and at an empty line; never inside quotes, brackets, code blocks, formulas or tables, nor
    right before one of the last three.
    """
    closed = [match.span() for match in _CLOSED_SPANS.finditer(text)]
    starts, depth, at = [0], 0, 0
    while at < len(text):
        span = next((span for span in closed if span[0] <= at < span[1]), None)
        if span:
            at = span[1]
            continue
        char = text[at]
        at += 1
        if char == "\n":
            depth = 0
        elif char in _OPENING:
            depth += 1
        elif char in _CLOSING and depth:
            depth -= 1
        if depth or not _ends_sentence(text, at - 1):
            continue
        while at < len(text) and text[at].isspace():
            at += 1
        if at < len(text) and all(at != span[0] for span in closed):
            starts.append(at)
    return starts


def _ends_sentence(text: str, at: int) -> bool:
    char, before, after = text[at], text[:at], text[at + 1 : at + 2]
    if char in "”’」』" and before[-1:] in tuple("。！？.!?"):
        return True
    if char == "\n":
        return after == "\n"
    if char in "。！？":
        return after not in tuple("”’」』。！？.!?…")
    if char not in ".．!?" or not (after.isspace() or cjk_ratio(after) == 1.0 and after.isalpha()):
        return False
    return char != "." or not _ABBREVIATION.search(before)


def insert_distractor(record: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """A copy of `record` whose context has one irrelevant sentence with a number in addition.

    The sentence is in the language of the context, is at a sentence boundary before the question, has no topic in
    common with the record, and its number occurs nowhere in the record. Task, steps, answer and every character of
    the old context stay; the id follows the new context. The same record and seed give the same copy.

    Args:
        record: A record; `context` must be there, the other fields may be missing.
        seed: Chooses the sentence, the number and the place.
    """
    context = record["context"]
    task, answer = record.get("task", ""), record.get("answer", "")
    rng = random.Random(f"{seed}/{record_id(context, task, answer)}")
    known = "\n".join((context, task, *record.get("steps", ()), answer)).lower()
    chinese = cjk_ratio(context) >= 0.5 if re.search(r"[^\W\d_]{2}", context) else record.get("language") != "en"

    choices = list(_CHINESE if chinese else _ENGLISH)
    rng.shuffle(choices)
    # The sentence with the fewest words in common with the record; nearly always there is one with none.
    _, sentence, low, high = min(choices, key=lambda choice: sum(word in known for word in choice[0]))
    taken = set(re.findall(r"\d+", known))
    free = [number for number in range(low, high + 1) if str(number) not in taken] or [high + 1]
    sentence = sentence.format(n=rng.choice(free))

    place = rng.choice(_places(context))
    gap = "" if chinese or place == len(context) else " "
    noisy = context[:place] + sentence + gap + context[place:]
    return {**record, "context": noisy, "id": record_id(noisy, task, answer)}


def _places(context: str) -> list[int]:
    """The sentence starts up to the first sentence that asks; the beginning when the first one asks already."""
    starts = sentence_starts(context)
    ends = [*starts[1:], len(context)]
    asking = [start for start, end in zip(starts, ends, strict=True) if _ASKS.search(context, start, end)]
    last = asking[0] if asking else starts[-1]
    return [start for start in starts if start <= last]
