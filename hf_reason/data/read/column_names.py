"""Other spellings and other names of columns -> the ones that the layouts know.

`Question`, `reasoningContent` and `Final Answer` are `question`, `reasoning_content` and `final_answer`; columns with
another common name for a question, an answer or a history get the layouts' name, unless the row has that already.
"""

import re
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
# Names of the correct answer; beside a column with what somebody answered, they are the reference.
_REFERENCES = (
    *("ground_truth", "reference_answer", "expected_answer", "correct_answer", "gold_answer", "golden_answer", "gold"),
    *("golden", "gold_standard_solution", "expected_output", "expected", "true_answer", "std_answer", "gt"),
)
# Name -> other names that mean the same where no layout knows the row as it is.
_LIKELY = {
    "question": (
        *("question_text", "question_content", "problem_statement", "user_prompt", "user_input", "user_query"),
        *("user_message", "user", "human", "q", "input", "original_question", "ori_question", "user_question"),
        *(
            "math_problem",
            "question_stem",
            "stem",
            "statement",
            "task_prompt",
            "input_text",
            "inputs",
            "exercise",
            "ask",
        ),
    ),
    "answer": (
        *("final_answer", "final_response", "model_answer", "model_response", "model_output", "generated_answer"),
        *("assistant", "assistant_response", "completion", "output", "content", "reply", "bot", "gpt"),
        *("generated_solution", "generation", "generated_text", "llm_response", "response_text", "output_text"),
        *("answer_text", "gpt_answer"),
        *("predicted_answer", "solution", "target", *_REFERENCES, "conclusion", "final", "result"),
        *("answer_key", "correct", "ans", "a"),
    ),
    "generations": ("responses", "completions", "samples"),
}
# If the row has one of these, it has a question or an answer already.
_THERE = {
    "question": {"question", "problem", "prompt", "query", "instruction", "context", "original_text"},
    "answer": {"answer", "response"},
    "generations": {"generations"},
}
# Names of a history that no list has: `previous_turns`, `dialog_context`, `conversation_log`.
_HISTORY = re.compile(
    r"(?:prev|previous|prior|past|earlier|preceding|old)"
    r"(?:messages?|msgs?|turns?|chats?|conversations?|dialogs?|dialogues?|rounds?|exchanges?|context|history|qa)"
    r"|(?:chat|conversation|conv|dialog|dialogue|messages?|turns?|multiturn|session)(?:history|context|log)"
    r"|history(?:messages?|turns?|list|chats?|conversations?|dialogs?|dialogues?)?"
)
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
        plain = squashed(name)
        english = usual.get(plain) or ("history" if _HISTORY.fullmatch(plain) else name)
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
    known = next((name for name in _REFERENCES if name in there and name not in found), None)
    if known is not None and "reference_answer" not in there:
        found[known] = "reference_answer"
    named = reasoning_names(tuple(there))
    if named and not set(thoughts) & set(there):
        found.setdefault(named[0], "reasoning")
    return found
