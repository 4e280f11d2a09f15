"""Language drift: a Chinese problem whose chain or answer goes on in another language."""

import re

from hf_reason.answers.traditional import simplified
from hf_reason.data.languages import cjk_ratio, count_words, detect_language, is_foreign_prose, without_code
from hf_reason.data.record import Record

# The language of a third of a chain is checked only when it has this many characters.
_MIN_PART = 60
# Problems in which another language is the subject, so that parts of the chain and the answer may be in it.
_ASKS_FOR_ANOTHER = re.compile(
    # but not in 算法文献, 今日文章, 品德文明 or 阿拉伯数字
    r"译|(?:[英俄韩]|(?<![品道美公])德|(?<![算方语司立执宪刑民违办设无想律手])法|(?<![今每当昨明近次假节生平])日)[语文]"
    r"|泰语|西班牙|葡萄牙|阿拉伯(?!数)|意大利|拉丁(?!字母|方)|希腊(?!字母)|越南|外语|外文|双语|单词|词汇|例句|语言"
    r"|\b(?:English|translat|Japanese|Russian|French|German|Korean|Spanish)",
    re.IGNORECASE,
)


def drifts(record: Record, least: float) -> bool:
    """Whether a Chinese problem has a chain, a third of a chain or an answer that is not in Chinese.

    Code does not count. An answer counts if it is prose: names, terms and formulas are no drift. Where the problem is
    about another language (a translation), only the chain as a whole counts.

    Args:
        record: The record.
        least: Minimum fraction of Chinese among the words (`cjk_ratio`), in [0, 1].
    """
    problem = f"{record['context']}\n{record['task']}"
    if not count_words(problem).chinese or detect_language(problem) != "zh":
        return False
    thought = without_code("\n".join(record["steps"]))
    words = count_words(thought)
    if words.total and words.chinese < least * words.total:
        return True
    third = len(thought) // 3
    parts: tuple[str, ...] = ()
    if third >= _MIN_PART and words.chinese < words.total:
        parts = thought[:third], thought[third : 2 * third], thought[2 * third :]
    if not any(cjk_ratio(part) < least for part in parts) and not is_foreign_prose(record["answer"], least):
        return False
    return not _ASKS_FOR_ANOTHER.search(simplified(problem))
