"""Where an answer states its result: boxes, tags, 答案是..., "the answer is ...", or its last sentence."""

import re

from .revisions import SENTENCE_END, VALUE, revised, without_denials
from .units import known_unit, measures

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{|[{}]")
_STATED = re.compile(
    r"(?:【(?:参考|正确|最终)?答案】[:：]?|答案(?:应该|应当|就|应|最终)?(?:是|为|為|选|選|[:：])(?:(?:是|为|為|选|選)(?![。.!！*\s]*(?:$|\n))|[:：])*|[答解][:：]|故选|应选|正确(?:的)?选项(?:是|为|[:：])+"
    r"|(?:结果|結果|得数)(?:是|为|為|[:：])+|####"
    r"|(?:final\s+)?answer\s*(?:is|[:：])(?:\s*:)?|the\s+(?:result|correct\s+(?:option|choice))\s+is)\s*",
    re.IGNORECASE,
)
_DISPLAY = re.compile(r"\\\[(.{1,500}?)\\\]|\$\$(.{1,500}?)\$\$", re.DOTALL)
# Models run on after their answer, with a question of their own.
_ENDS = re.compile(r"####|\\boxed|answer\s*(?:is|:)|答案(?:是|为|[:：])|答[:：]", re.IGNORECASE)
_NEXT_QUESTION = re.compile(r"\n\s*(?:\*\*)?(?:Question|Q|User|Human|Problem|问题|题目|问|用户)(?:\*\*)?\s*[:：]")
_LINKED = re.compile(r"[,，、;；和与及或]|\b(?:and|or)\b")
_NAME = re.compile(r"((?:[A-Za-z](?:_\{?\w{1,3}\}?|\d)?|[\u4e00-\u9fff]{1,4})\s*(?:=|为|是|[:：]))\s*\$?\s*$")
_MAX_GAP = 60
_BARE_NUMBER = re.compile(r"[-+]?\$?(?:\d[\d.,]*|\\[dt]?frac\s*\{\d+\}\s*\{\d+\}|\d+/\d+)")
# What may stand behind a box: a unit in Chinese, in Latin letters before a full stop, or in \text.
_BEHIND = re.compile(
    r"[\s$~]*(?:\\[,; ])?\s*(?:(?P<chinese>[\u4e00-\u9fff]{1,6}(?:/[\u4e00-\u9fff]{1,3})?)|\\?(?P<rate>[%‰])"
    r"|\\(?:text|mathrm)\s*\{\s*(?P<text>[^{}]{1,24}?)\s*\}(?P<power>\^\{?[23]\}?)?"
    r"|(?P<latin>[A-Za-z]{1,8}(?:/[A-Za-z]{1,4})?(?:\^\{?[23]\}?|[²³])?)\$?\s*(?:[.,;。，；)]|$))"
)
# Words that are more than a unit: 当x=3时, 3里, 3两个.
_SHORT_UNITS = frozenset("时里两分寸担节安牛伏欧帕周in")


def all_boxes(text: str) -> list[tuple[int, int, str]]:
    """Where each outermost `\\boxed{...}` starts and ends, and what it holds. Unclosed ones do not count."""
    if "boxed" not in text and "fbox" not in text:
        return []
    found: list[tuple[int, int, str]] = []
    open_at: list[tuple[int, int] | None] = []
    for match in _BOX.finditer(text):
        if match[0] in "{}" and text[match.start() - 1 : match.start()] == "\\":
            continue
        if match[0] == "}":
            if open_at and (box := open_at.pop()) is not None:
                while found and found[-1][0] > box[0]:
                    found.pop()
                found.append((box[0], match.end(), text[box[1] : match.start()].strip()))
        else:
            open_at.append((match.start(), match.end()) if match[0] != "{" else None)
    return found


def _joined(gap: str) -> bool:
    """Whether the text between two boxes makes them parts of one answer."""
    bare = gap.strip(" $\n\t")
    if not bare or bare in ("\\quad", "\\,", "\\)", "\\]"):
        return True
    return (
        len(gap) <= _MAX_GAP
        and bool(_LINKED.search(gap))
        and not re.search(r"[。！？\n]|\.\s", gap)
        and revised(gap) is None
    )


def _unit_behind(tail: str) -> str:
    """The unit that stands behind a box: \\boxed{12}元, $\\boxed{12}$ cm^2."""
    match = _BEHIND.match(tail[:_MAX_GAP])
    if match is None:
        return ""
    if match["rate"]:
        return match["rate"]
    unit = known_unit(match["chinese"] or "") or match["latin"] or (match["text"] or "") + (match["power"] or "")
    return f" {unit}" if unit not in _SHORT_UNITS and measures(unit) else ""


def boxed(text: str) -> str | None:
    """The content of the last `\\boxed{...}`, or `None`.

    Boxes that belong together (`$x_1=\\boxed{3}$, $x_2=\\boxed{5}$`) give one list, with the names before them.
    """
    boxes = all_boxes(text)
    if not boxes:
        return None
    first = len(boxes) - 1
    while first and _joined(text[boxes[first - 1][1] : boxes[first][0]]):
        first -= 1
    group = boxes[first:]
    contents = list(dict.fromkeys(box[2] for box in group))
    if len(contents) == 1:
        return contents[0] + (_unit_behind(text[group[-1][1] :]) if _BARE_NUMBER.fullmatch(contents[0]) else "")
    named = []
    for start, _, content in group:
        name = _NAME.search(text[max(0, start - 30) : start])
        named.append(f"{name[1]} {content}" if name and "=" not in content else content)
    return " ; ".join(dict.fromkeys(named))


def _stated(text: str) -> tuple[str, int] | None:
    """What the last phrase such as 答案是 introduces, and where it ends."""
    found = list(_STATED.finditer(text))
    if not found:
        return None
    start = found[-1].end()
    tail = text[start:].strip(" \t\n*")
    display = _DISPLAY.match(tail)
    tail = re.split(r"(?<=\S)\s*【", tail, maxsplit=1)[0]
    first = (display[1] or display[2]) if display else SENTENCE_END.split(tail, maxsplit=1)[0] if tail else ""
    return (first.strip(), start + len(first)) if first.strip() else None


def own_answer(text: str) -> str:
    """A text up to the next question that a model asks itself after it has answered."""
    ends = _ENDS.search(text)
    following = _NEXT_QUESTION.search(text, ends.end()) if ends else None
    return text[: following.start()] if following else text


def final_part(text: str) -> tuple[str, bool]:
    """The part of an answer that states the result, and whether the text marks it as such.

    Marked are `\\boxed{...}`, `<answer>`, 答案是..., 答：..., "the answer is ..." and "#### ..."; otherwise the
    part is the last sentence. A result that the text withdraws later ("wait, no, ...") is none, and values that the
    part denies ("3, not 4") are left out.
    """
    text = own_answer(text)
    found, end = boxed(text), 0
    tagged = found is None and "</answer>" in text and "<answer>" in text
    if found is not None:
        end = all_boxes(text)[-1][1]
        # An intermediate result in a box, and "the final answer is ..." after it.
        later = _stated(text[end:])
        if later and re.match(VALUE, later[0]):
            found, end = later[0], end + later[1]
    elif tagged:
        # from the end, so that many tags without a partner cost linear time
        text = text[: text.rfind("</answer>")].rpartition("<answer>")[2].strip()
    if found is None and (stated := _stated(text)):
        found, end = stated
    if found is not None:
        again = revised(text[end:])
        # A box stands until something legible takes its place; a phrase may be taken back by a calculation alone.
        if again is None or (not again and "boxed" in text):
            return without_denials(found), True
        if again:
            return without_denials(again), True
    sentences = [part.strip() for part in SENTENCE_END.split(text) if part.strip()]
    return (without_denials(sentences[-1]) if sentences else ""), bool(tagged)
