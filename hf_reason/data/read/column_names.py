"""Other spellings and other names of columns -> the ones that the layouts know.

`Question`, `reasoningContent` and `Final Answer` are `question`, `reasoning_content` and `final_answer`; columns with
another common name for a question, an answer or a history get the layouts' name, unless the row has that already.
"""

from collections.abc import Iterable

from .reasoning import reasoning_names, squashed

# Name -> other names of the same, in every layout.
_SAME = {
    "history": (
        *("prev_messages", "previous_messages", "prior_messages", "past_messages", "context_messages", "chat_history"),
        *("conversation_history", "dialog_history", "dialogue_history", "message_history", "history_messages"),
    ),
    "system": ("system_prompt", "system_message", "system_instruction", "meta_instruction"),
    "tools": ("functions", "tool_definitions", "available_tools"),
    "conversations": ("conversation", "dialogue", "dialog", "chat", "turns"),
    "steps": ("solution_steps", "step_list", "proof_steps"),
    "context": ("passage", "background", "article", "paragraph", "material"),
}
# Name -> other names that mean the same where no layout knows the row as it is.
_LIKELY = {
    "question": (
        *("question_text", "question_content", "problem_statement", "user_prompt", "user_input", "user_query"),
        *("user_message", "user", "human", "q", "input"),
    ),
    "answer": (
        *("final_answer", "final_response", "model_answer", "model_response", "model_output", "generated_answer"),
        *("assistant", "assistant_response", "completion", "output", "content", "reply", "bot", "gpt"),
        *("solution", "target", "ground_truth", "reference_answer"),
    ),
    "generations": ("responses", "completions", "samples"),
}
# If the row has one of these, it has a question or an answer already.
_THERE = {
    "question": {"question", "problem", "prompt", "query", "instruction", "context", "original_text"},
    "answer": {"answer", "response"},
    "generations": {"generations"},
}
_EXTRA = (
    *("task", "task_desc", "input", "domain", "category", "subject", "options", "choices", "reference_answer"),
    *("finish_reason", "finish_reasons", "stop_reason", "is_reasoning_complete"),
)


def respelled(columns: Iterable[str], known: frozenset[str]) -> dict[str, str]:
    """Column -> its usual spelling, for those columns that write a known name in another way.

    Args:
        columns: Names of a row's columns.
        known: Names that the layouts know.
    """
    columns = [name for name in columns if isinstance(name, str)]
    others = [name for pool in (_SAME, _LIKELY) for names in pool.values() for name in names]
    usual = {squashed(name): name for name in (*others, *_SAME, *_EXTRA, *sorted(known))}
    found: dict[str, str] = {}
    for name in columns:
        english = usual.get(squashed(name), name)
        if len(name) > 1 and name not in known and english not in (*columns, *found.values()):
            found[name] = english
    return found


def renamed(columns: Iterable[str], fits: bool, thoughts: Iterable[str]) -> dict[str, str]:
    """Column -> the layouts' name for what it holds.

    Args:
        columns: Names of a row's columns, in the usual spelling.
        fits: Whether a layout knows the row as it is; then its questions, answers and reasoning keep their names.
        thoughts: Names that layouts have for the reasoning.
    """
    there = [name for name in columns if isinstance(name, str)]
    found: dict[str, str] = {}
    for english, names in _SAME.items():
        other = next((name for name in names if name in there), None)
        if other is not None and english not in there:
            found[other] = english
    if fits:
        return found
    for english, names in _LIKELY.items():
        other = next((name for name in names if name in there and name not in found), None)
        if other is not None and _THERE[english].isdisjoint(there):
            found[other] = english
    named = reasoning_names(tuple(there))
    if named and not set(thoughts) & set(there):
        found.setdefault(named[0], "reasoning")
    return found
