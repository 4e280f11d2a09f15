"""Which columns of a row, and which keys of a message, hold reasoning, and the text in them.

Every adapter and every message asks here, so that a layout cannot forget a name. Names are compared without regard to
case, `_`, `-` and spaces: `Reasoning Content`, `reasoningContent` and `reasoning_content` are the same.
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from hf_reason.answers.traditional import simplified

from .chinese_columns import REASONING_NAMES as _CHINESE_NAMES
from .columns import storable
from .rows import SourceError

# The usual names, the preferred one first: of several in a row the first that holds text is used.
REASONING_NAMES = (
    *("reasoning_content", "reasoning", "thinking", "thought", "think", "cot", "chain_of_thought", "rationale"),
    *("thought_process", "thinking_process", "reasoning_process", "think_content", "thinking_content", "thoughts"),
    *("reasoning_text", "reasoning_trace", "reasoning_chain", "reasoning_steps", "reasoning_details", "complex_cot"),
    *("model_reasoning", "deepseek_reasoning", "deepseek_thinking_trajectory", "scratchpad", "inner_monologue"),
)
# Used when there is nothing else.
_LAST_NAMES = (
    *("explanation", "analysis", "derivation", "justification", "solution_process", "worked_solution", "working"),
    *("workings", "r1_solution", "r1_solution_1"),
)
# Chinese names of reasoning that no list has (推导过程, 长思维链), and words that say that a column is about it.
_CHINESE = re.compile("推理|推导|思考|思维|思路|链式|独白|分析过程")
_CHINESE_ABOUT = re.compile(
    "时[间长]|长度|[数量次]|模[式型]|类[型别]|等级|难度|要求|语言|开关|消耗|评[分价]|得分|标签|步骤|任务|问题|题|是否|能力"
)
# One of these words makes any other name one of reasoning, unless a word of the second set says that it is about it.
_WORDS = frozenset(
    ("reasoning", "reasonings", "thinking", "thought", "thoughts", "think", "cot", "cots", "rationale", "rationales")
)
_ABOUT = frozenset(
    (
        *("token", "tokens", "length", "len", "count", "num", "number", "effort", "enable", "enabled", "disable"),
        *("mode", "time", "ms", "sec", "seconds", "duration", "budget", "score", "scores", "quality", "language"),
        *("lang", "type", "is", "has", "use", "with", "without", "no", "complete", "completed", "correct"),
        *("correctness", "verified", "valid", "flag", "id", "hash", "model", "format", "level", "depth", "tag"),
        *("tags", "start", "end", "template", "prompt", "instruction", "question", "answer", "required"),
        *("supported", "switch", "config", "style", "domain", "task", "signature", "cost", "price", "usage"),
        *("rate", "ratio", "url", "file", "summary", "label", "category", "class", "source"),
    )
)
# Words that in front only say whose reasoning it is: `model_thinking`, `answer_rationale`.
_WHOSE = ("model", "answer", "question", "task", "source")
# A value of such a column that is a switch or a grade and no text.
_SWITCHES = frozenset(
    (
        *("true", "false", "yes", "no", "on", "off", "none", "null", "nan", "high", "medium", "low", "minimal"),
        *("auto", "enabled", "disabled", "default", "n/a", "na", "-"),
        *("是", "否", "无", "有", "开", "关", "高", "中", "低"),
    )
)
# A shorter text that is alone in a list is no chain.
_SHORTEST = 20
# Objects beside a text that may hold its reasoning (LangChain, LiteLLM, AM-DeepSeek-R1-Distilled, ...).
_HOLDERS = (
    *("info", "additional_kwargs", "provider_specific_fields", "metadata", "meta", "extra", "extra_info"),
    *("model_extra", "response_metadata"),
)
# The keys of a part of reasoning (OpenRouter, Anthropic, OpenAI) that hold its text.
_PART_KEYS = ("text", "thinking", "reasoning", "content", "summary", "thought", "value")


def squashed(name: str) -> str:
    """A column's name without case, `_`, `-`, dots and spaces; traditional characters as simplified ones."""
    return re.sub(r"[\s_\-.]+", "", simplified(name)).lower()


_KNOWN = {squashed(name): rank for rank, name in enumerate((*REASONING_NAMES, *_CHINESE_NAMES))}
_LAST = {squashed(name): len(_KNOWN) + 1 + rank for rank, name in enumerate(_LAST_NAMES)}


@lru_cache(maxsize=512)
def _rank(name: str) -> int | None:
    """The place of a name in the order of preference; `None` if it does not name reasoning."""
    plain = squashed(name)
    if (rank := _KNOWN.get(plain, _LAST.get(plain))) is not None:
        return rank
    if not plain.isascii():
        return len(_KNOWN) if _CHINESE.search(plain) and not _CHINESE_ABOUT.search(plain) else None
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name.replace("CoT", "Cot"))]
    words = words[1:] if words[:1] and words[0] in _WHOSE else words
    named = not _WORDS.isdisjoint(words) and _ABOUT.isdisjoint(words)
    return len(_KNOWN) if named else None


@lru_cache(maxsize=512)
def reasoning_names(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Those columns of a row, or keys of a message, that are named like reasoning, the preferred one first."""
    ranked = [(rank, name) for name in columns if isinstance(name, str) and (rank := _rank(name)) is not None]
    return tuple(name for _, name in sorted(ranked, key=lambda pair: pair[0]))


def is_switch(name: str, value: object) -> bool:
    """Whether a column named like reasoning only counts, grades or switches it: `thinking: 812`, `reasoning: "high"`.

    A name that can only mean the text (`reasoning_content`) is never a switch, so that a number in it is an error.
    """
    if isinstance(value, bool | int | float):
        return squashed(name) not in ("reasoningcontent", "thinkcontent", "thinkingcontent", "reasoningtext")
    if not isinstance(value, str) or len(value) > 40:
        return False
    text = value.strip().lower()
    label = _rank(name) == len(_KNOWN) and re.fullmatch(r"[a-z][\w./-]*", text) is not None
    return text in _SWITCHES or label


def reasoning_text(value: object, where: str) -> str | list[str]:
    """The text of a reasoning column: a text (also alone in a list), typed parts of APIs, or a list of steps.

    Raises:
        SourceError: for another type; `where` names the field.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return storable(_part_text(value))
    if isinstance(value, Sequence) and value:
        if all(isinstance(item, Mapping) for item in value):
            return storable(_joined_parts(value))
        if all(isinstance(item, str) for item in value):
            if len(value) > 1:
                return [storable(step) for step in value]
            if len(value[0]) >= _SHORTEST:
                return storable(value[0])
    if isinstance(value, Sequence) and not value:
        return ""
    raise SourceError(f"field {where!r} must be text, not {type(value).__name__}.")


def _part_text(part: Mapping[str, Any]) -> str:
    """The text of one part; encrypted and redacted ones have none."""
    for key in _PART_KEYS:
        value = part.get(key)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, list) and value:
            return "\n".join(text for text in (_part_text(i) if isinstance(i, Mapping) else str(i) for i in value))
    return ""


def _joined_parts(parts: Sequence[Mapping[str, Any]]) -> str:
    """Parts as one text; pieces of a stream, which have the same index, without anything between them."""
    text, last = "", None
    for part in parts:
        if piece := _part_text(part):
            streamed = last is not None and part.get("index") == last
            text += piece if streamed or not text else f"\n\n{piece}"
            last = part.get("index")
    return text


def find_reasoning(row: Mapping[str, Any], where: str = "") -> str | list[str]:
    """The reasoning in the columns of a row or the keys of a message: text, or steps; empty if there is none.

    Raises:
        SourceError: for a column that can only mean text and holds something else; `where` is put before its name.
    """
    for name in reasoning_names(tuple(row)):
        value = row[name]
        if value is None or is_switch(name, value):
            continue
        found = reasoning_text(value, f"{where}{name}")
        if found and (isinstance(found, list) or found.strip()):
            return found
    for name in _HOLDERS:
        if isinstance(row.get(name), Mapping) and (found := find_reasoning(row[name], f"{where}{name}.")):
            return found
    return ""
