"""Chinese names of columns -> the English ones that the layouts know, so that every single-record layout has both.

Traditional characters count as their simplified ones.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from hf_reason.answers.traditional import simplified

# Columns, and keys of messages, that hold the reasoning (reasoning.py asks for them too).
REASONING_NAMES = ("推理过程", "思考过程", "思维链", "思维过程", "推理链", "推理", "思考", "推理内容", "思考内容")
# English name -> Chinese names, the preferred one first; of several in a row the first is used.
_SIMPLE = {
    "question": (
        *(
            "题目",
            "问题",
            "题干",
            "提问",
            "试题",
            "题面",
            "原题",
            "问句",
            "题目内容",
            "问题内容",
            "试题内容",
            "用户提问",
            "用户问题",
        ),
        *("用户输入", "提示词", "提示", "问"),
    ),
    "reasoning": REASONING_NAMES,
    "steps": ("步骤", "推理步骤", "解题步骤", "步骤列表"),
    "context": ("上下文", "背景", "材料", "情境", "背景信息", "问题背景"),
    "task": ("任务", "推理要求", "任务描述", "任务要求"),
    "instruction": ("指令", "指示"),
    "input": ("输入",),
    "output": ("输出",),
    "system": ("系统", "系统提示", "系统提示词"),
    "conversations": ("对话",),
    "messages": ("消息",),
    "history": (
        *(
            "历史",
            "历史对话",
            "对话历史",
            "历史消息",
            "历史记录",
            "历史会话",
            "会话历史",
            "多轮历史",
            "聊天记录",
            "聊天历史",
        ),
        *("对话记录", "历史问答", "之前的对话", "上文", "前文"),
    ),
    "options": ("选项", "选择", "备选答案"),
    "domain": ("领域", "所属领域"),
    "subject": ("学科", "科目"),
    "category": ("类别", "分类", "题型"),
}
# An answer that somebody gave, the correct one, and a worked solution, which is a chain if the row has an answer
# besides, and the answer if it has none.
_SAID = ("回答", "回复", "最终答案", "答案", "模型回答", "助手回答", "回应", "响应", "结论", "最终结果", "结果", "答")
_KNOWN = ("标准答案", "参考答案", "正确答案", "正确选项", "真实答案", "答案")
_WORKED = ("解析", "解答", "解题过程", "解答过程", "解题思路", "分析")
_ENGLISH_ANSWERS = frozenset(("answer", "response", "output", "completion", "content", "final_answer", "messages"))
KNOWN_NAMES = tuple(
    dict.fromkeys([name for names in _SIMPLE.values() for name in names] + [*_SAID, *_KNOWN, *_WORKED])
)


def english_columns(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its Chinese columns under their English names; others stay as they are.

    A row without any Chinese name is returned itself. An English name that the row has already is not replaced.
    """
    names = _renaming(tuple(row))
    if not names:
        return row
    renamed = {names.get(name, name): value for name, value in row.items()}
    steps = renamed.get("steps") if "steps" in names.values() else None
    if isinstance(steps, str) and steps.lstrip()[:1] != "[" and "reasoning" not in renamed:
        # One text is a chain of prose; the layouts with steps want a list.
        renamed["reasoning"] = renamed.pop("steps")
    if "context" in renamed and "question" in renamed and "task" not in renamed:
        # Background and question in columns of their own: the question is what is asked.
        renamed["task"] = renamed.pop("question")
    return renamed


@lru_cache(maxsize=256)
def _renaming(columns: tuple[str, ...]) -> dict[str, str]:
    """Chinese name, as the row writes it -> English name for the columns of a row."""
    if all(isinstance(name, str) and name.isascii() for name in columns):
        return {}
    written = {simplified(name).strip(): name for name in columns if isinstance(name, str)}
    if written.keys().isdisjoint(KNOWN_NAMES):
        return {}
    return {written[name]: english for name, english in _english(tuple(written)).items()}


def _english(columns: tuple[str, ...]) -> dict[str, str]:
    """Chinese name -> English name, for simplified names."""
    found: dict[str, str] = {}

    def first(names: Sequence[str]) -> str | None:
        return next((name for name in names if name in columns and name not in found), None)

    def assign(chinese: str | None, english: str) -> None:
        if chinese is not None and english not in columns and english not in found.values():
            found[chinese] = english

    for english, names in _SIMPLE.items():
        assign(first(names), english)
    reasoned = {"reasoning", "steps"} & {*columns, *found.values()}
    if reasoned and found.get("输出") == "output" and first(_SAID) is None:
        found["输出"] = "answer"
        if found.get("输入") == "input" and not {"question", "instruction"} & {*columns, *found.values()}:
            found["输入"] = "question"
    said, known = first(_SAID), first(_KNOWN)
    answered = not _ENGLISH_ANSWERS.isdisjoint(columns)
    if known == said:
        known = first([name for name in _KNOWN if name != said])
    if said is None and not (known and not reasoned and first(_WORKED)):
        # "解答" beside a chain is the answer; beside a known answer and no chain it is the chain.
        said = first(("解答",)) if reasoned or known is None else None
    worked = first([name for name in _WORKED if name != said])
    if not answered:
        assign(said if said is not None else known, "answer")
    if known is not None and (answered or said is not None):
        assign(known, "reference_answer")
    if worked is not None:
        assign(worked, "reasoning" if not reasoned and (said or known or answered) else "answer")
    return found
