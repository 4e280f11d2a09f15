"""Sentences that state a result in words: 最高的是小明, 小华跑得最快, the capital is Paris, this is false."""

import re

from .normalise import fold, undressed
from .revisions import SENTENCE_END

_CLAUSE = re.compile(r"[,，;；]|[.](?=\s)")
_QUOTES = r"[\s*“”\"'‘’《》「」『』]*"
_MADE = "written|painted|composed|discovered|invented"
_COPULA = (
    r"(?:是|为|叫做?|叫作|属于|构成|选择|位于|处于|(?<![现存正])在|[:：]"
    rf"|\b(?:is|are|was|were|called|named|(?:{_MADE}) by)\b(?:\s+(?:the|a|an)\b)?)(?:一?[个种名位只])?{_QUOTES}"
)
_LAST_COPULA = re.compile(rf"^.*{_COPULA}(?=\S)", re.IGNORECASE | re.DOTALL)
# What takes a statement back, or makes it a supposition or a question.
_UNSURE = re.compile(
    r"[不没非未无别否]|如果|假如|假设|假定|可能|也许|或许|大概|怀疑|误|猜|要么|曾|以前|过去|原名|吗|以为|[若?？]|认为|说(?!法|真|谎|明)"
    r"|n't\b|\b(?:not|never|no|neither|nor|if|may|maybe|might|could|possibly|perhaps|unlikely|doubts?|guess|either|formerly|once|suppose|assume|says?|thinks?|claims?|whether"
    r"|wrong|false|incorrect)\b",
    re.IGNORECASE,
)
_NOTE = re.compile(r"(?<=[^\s(])\s*\([^()]*\)$")
_FORMULA = re.compile(r"(?=.*[A-Z])[A-Za-z0-9_{}()]+")
# What says something of a subject before it: 函数单调递增, the series converges.
_PREDICATE = re.compile(r"有[\u4e00-\u9fff]{2}|单调|先.{1,4}后|(?:con|di)verges?$|(?:in|de)creas(?:es|ing)$")
_DENIES = re.compile(r"而?(?:不是|并非|不为)|(?:and |but )?not\b", re.IGNORECASE)
# 最矮的是小红, 最高的是小明: two answers, and nobody knows which of them is asked for.
_STATES_TOO = re.compile(
    r"(?:是|为|叫|最)\s*[\u4e00-\u9fff]{1,5}$|[最更][\u4e00-\u9fff]{1,3}$|\b(?:is|are|was|were)\s+(?:the\s+)?\w+$",
    re.IGNORECASE,
)
_LEADS = re.compile(
    r"^(?:答[:：]|所以|因此|因而|故|综上(?:所述)?|于是|可见|so|therefore|thus|hence)?[,，:：\s]*", re.IGNORECASE
)
_WINS = re.compile(
    r"(?:就?是)?(?:[^,，、比和与跟同的和]{0,6}[最更][^,，]{1,4}|(?:赢|获胜|胜出|胜利)了?|(?:得了?|是|获得)(?:第一名?|冠军)"
    r"|(?:是)?说(?:的是)?真话的?人?|(?:是)?说谎的?人?|是凶手)"
    r"|\s+(?:is|was|runs|ran)\s+the\s+(?:most\s+)?\w+|\s+(?:wins|won)(?:\s+the\s+\w+)?",
    re.IGNORECASE,
)
_TRUE = "正确 正确的 对 对的 成立 成立的 真 √ ✓ ✔ ☑ ✅ true correct right"
_FALSE = "错误 错误的 错 错的 不正确 不正确的 不对 不对的 不成立 假 × ✗ ✘ ❌ ✕ 有误的 false incorrect wrong"
_JUDGEMENTS = {True: frozenset(_TRUE.split()), False: frozenset(_FALSE.split())}
_JUDGED = re.compile(
    r"(?:此|该|这[个句种]?|本|原|上述|以上|题中的?|题目中?的?|它的?|判断|(?=说法|命题|结论)|\bthe\b|\bthis\b|\bthat\b|\bit\b)"
    r"\s*(?:[\u4e00-\u9fff]{0,4}(?:说法|判断|观点|命题|结论|陈述|话|题|表述|论断|推断|答案)"
    r"|(?:given\s+)?(?:statement|claim|proposition|assertion|conclusion))?\s*(?:都|就|也)?(?:是|为|[:：]|\bis\b)?\s*",
    re.IGNORECASE,
)
_REPLIES = {
    True: frozenset(["yes", "是的", "能", "可以", "会", "对"]),
    False: frozenset(["no", "不", "不是", "不能", "不可以", "不会", "不对"]),
}
_MAX_SENTENCE = 200


def _last_sentence(part: str) -> str:
    sentences = [text.strip() for text in SENTENCE_END.split(fold(part[-_MAX_SENTENCE:])) if text.strip()]
    return _LEADS.sub("", undressed(sentences[-1])) if sentences else ""


def states(part: str, target: str) -> bool:
    """Whether the last sentence of `part` ends in a statement of `target`, or says of it that it is the one asked for.

    A sentence that denies, supposes or asks, and one that states several things, states nothing.
    """
    sentence, wanted = _last_sentence(part), undressed(fold(target)).strip(" .。")
    clauses = [clause.strip() for clause in _CLAUSE.split(sentence) if clause.strip()]
    if len(clauses) > 1 and _DENIES.match(clauses[-1]):
        clauses.pop()
    if not clauses or not 1 <= len(wanted) <= 40:
        return False
    clauses[-1] = _NOTE.sub("", clauses[-1]) if "(" not in wanted else clauses[-1]
    last = sentence if _CLAUSE.search(wanted) else _LEADS.sub("", clauses[-1])
    if clauses[-1].startswith("而是"):
        clauses = clauses[-1:]
    if _FORMULA.fullmatch(wanted):
        last = re.sub(r"[_{}]", "", last)
        wanted = re.sub(r"[_{}]", "", wanted)
    if _PREDICATE.match(wanted) and last.endswith(wanted) and not _UNSURE.search(last.removesuffix(wanted)):
        return True
    if wanted in ("够", "不够"):
        return re.search(rf"(?<!不){wanted}了?$", last) is not None
    rest = last.replace(wanted, "", 1)
    if rest == last or any(_STATES_TOO.search(clause) for clause in clauses[:-1]):
        return False
    if _UNSURE.search(rest) or _UNSURE.search(",".join(clauses[:-1])[-60:]):
        return False
    if last.startswith(wanted) and _WINS.fullmatch(rest):
        return True
    if re.fullmatch(rf"就?是{re.escape(wanted)}[^,，不没]{{1,4}}的", last):
        return True
    head = _LAST_COPULA.match(last)
    return head is not None and last[head.end() :].strip(" *“”\"'‘’《》「」『』").casefold() == wanted.casefold()


def judgement(part: str) -> bool | None:
    """What a sentence says of the statement that is asked about: 这个说法是错误的, "Yes, it is." """
    sentence = re.sub(r"^判断(?:结果)?\s*:\s*", "", _last_sentence(part))
    match = _JUDGED.match(sentence)
    said = sentence[match.end() if match else 0 :].strip().casefold()
    reply = re.split(r"[,，.。]", sentence, maxsplit=1)
    for verdict in (True, False):
        if said in _JUDGEMENTS[verdict]:
            return verdict
        others = _REPLIES[not verdict] | _JUDGEMENTS[not verdict]
        turned = len(reply) == 2 and re.search(r"但|不过|\bbut\b|\bhowever\b", reply[1], re.IGNORECASE)
        if len(reply) == 2 and not turned and reply[0].strip().casefold() in _REPLIES[verdict]:
            return (
                None
                if any(word.strip().casefold() in others for word in re.split(r"[,，.;；]", reply[1]))
                else verdict
            )
    return None
