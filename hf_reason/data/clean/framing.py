"""Lines and sentences that only frame a problem: who answers, that it is to be answered, what kind of problem it is.

An evaluation file may put them around every problem (`instruction` and `input`), in its own words. They go only where
another line asks something and is long enough to be a problem of its own.
"""

import re

from .text_keys import folded

_ROLE = (
    r"(?:你现?在?是|请?你?(?:作为|扮演|充当)|假[设如]你?是?|身为|(?:[小中大]学|[初高]中)?.{0,4}(?:数学|奥数|语文|物理|化学)\s*\Z"
    r"|you(?: are|'re| will be)|act as|as an? |imagine |assume |suppose you |pretend )"
)
_REQUEST = (
    r"(?:请(?![客假教柬])|麻烦|烦请|帮(?:我|忙)|尝?试着?|认真|仔细|逐步|一步|解决|解答|回答|作答|完成|阅读|根据|按照?|用(?:中文|简体)"
    r"|[写给]出|[把将]你?的?(?:最终)?(?:答案|结果)|只?需|注意|要求|提示|任务|指令"
    r"|(?:please|kindly|now |answer|solve|respond|reply|read|think|consider|work |give |provide|show |write |use |put "
    r"|do |try |let's|let us|(?:your|the) task|task|instructions?|note|given the |here (?:is|are)|below (?:is|are)"
    r"|the following|this is)\b)"
)
_KIND = (
    r"(?:(?:这|以下|下[面列述]|如下|[小中大]学|初中|高中|数学|[^?]{0,6}(?=应用题|计算题|选择题|填空题|解答题|问答题|数学题))[^?]{0,16}"
    r"(?:题目?|问题|任务|练习)[^?]{0,4}|(?:math|arithmetic|word|logic|grade)[\w -]{0,20}(?:problems?|questions?))"
)
_IS_ROLE = re.compile(rf"\s*{_ROLE}")
_FRAME = re.compile(rf"\s*(?:{_REQUEST}|{_KIND}\s*[:.!]?\s*\Z)")
_LONGEST, _LONGEST_LATIN = 80, 200
# What a line must not have to be a frame: numbers and questions belong to the problem. A role may have years.
_QUESTION = re.compile(
    r"[?=]|多少|几[个只本页人天元米年月岁分斤块]|什么|谁|哪[个些里儿种项]|怎[样么]|\b(?:who|whose|how (?:many|much))\b"
)
_NUMERAL = re.compile(
    r"\d|[二两三四五六七八九十百千万半]|\b(?:two|three|four|five|six|seven|eight|nine|ten|half|twice|double)\b"
)
# What asks, and the least length of a problem of its own, in characters of Chinese; Latin letters count a third.
_ASKS = re.compile(
    r"\?|多少|几|什么|谁|哪|怎|为何|是否|吗|求|计算|证明|判断|解方程"
    r"|\b(?:what|how|which|who|when|where|why|find|calculate|compute|determine|evaluate|prove|solve)\b"
)
_LEAST = 12
_CHINESE = re.compile("[\u3400-\u9fff]")
# The end of a sentence, or a colon, in front of more text on the line.
_SENTENCE = re.compile(r"\s*[^.。!！:：]{2,}?[.。!！:：]+(?=\s*\S)")


def without_frames(lines: list[str]) -> list[str]:
    """The lines of a problem without those that only frame it, and without such sentences around it on its line."""
    bare = [_without_tail(_without_lead(line)) for line in lines]
    if not any(_asks_enough(line) for line in bare):
        return lines
    return [line for line in bare if _asks_enough(line) or not _frames(line)]


def _without_lead(line: str) -> str:
    """A line without the sentences in front that only frame what follows on it."""
    rest = line
    while (
        (lead := _SENTENCE.match(rest)) and _frames(lead[0].rstrip(".。!！:： ")) and _asks_enough(rest[lead.end() :])
    ):
        rest = rest[lead.end() :].lstrip()
    return rest


def _without_tail(line: str) -> str:
    """A line without the sentences behind its last question mark, if each of them only frames the question."""
    end = max(line.rfind("?"), line.rfind("？")) + 1
    sentences = [each for each in re.split(r"[.。!！;；]\s*", line[end:].strip()) if each.strip()]
    frame = end and sentences and all(_frames(each) for each in sentences) and _asks_enough(line[:end])
    return line[:end] if frame else line


def _frames(line: str) -> bool:
    plain = folded(line)
    longest = _LONGEST if _CHINESE.search(plain) else _LONGEST_LATIN
    if len(plain) > longest or _QUESTION.search(plain):
        return False
    return _IS_ROLE.match(plain) is not None or (_FRAME.match(plain) is not None and not _NUMERAL.search(plain))


def _asks_enough(line: str) -> bool:
    plain = folded(line)
    if not _ASKS.search(plain) or (_frames(line) and "?" not in plain):
        return False
    chinese = len(_CHINESE.findall(plain))
    return chinese + (len(plain) - chinese) / 3 >= _LEAST
