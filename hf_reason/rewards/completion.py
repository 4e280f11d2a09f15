"""What TRL hands to a reward function, read: prompts and completions, plain or conversational, and columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_reason.data.segment.steps import split_steps
from hf_reason.text.render import CLOSE_TAG, OPEN_TAG, opened_by_prompt, parse, split_completion, step_starts


@dataclass(frozen=True)
class Chain:
    """One completion, read.

    Attributes:
        text: The completion, with the part of the thought's frame that the prompt has opened before it.
        steps: The steps of the thought, without labels; a thought without labels is cut into steps as prose is.
        answer: What follows the thought; empty when the thought was not closed.
        closed: Whether there is an answer part: the thought was closed, or none was begun.
        thinks: Whether a thought is expected: `False` after a prompt that has closed it.
    """

    text: str
    steps: list[str]
    answer: str
    closed: bool
    thinks: bool


def text_of(content: Any) -> str:
    """The text of a prompt or completion: a string, a message, or messages (the last one's)."""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        thought = content.get("reasoning_content") or content.get("thinking")
        text = text_of(content.get("content") or "")
        return f"{OPEN_TAG}\n{thought}\n{CLOSE_TAG}\n\n{text}" if thought else text
    if isinstance(content, Sequence) and content:
        if all(isinstance(part, Mapping) and "role" not in part and "text" in part for part in content):
            return "".join(str(part["text"]) for part in content)  # the parts of one message
        spoken = [part for part in content if isinstance(part, Mapping) and part.get("role", "assistant") != "tool"]
        return text_of(spoken[-1]) if spoken else ""
    return ""


def read_chain(completion: Any, prompt: Any = "", thinking: bool | None = None) -> Chain:
    """Read one completion.

    Args:
        completion: A string or messages.
        prompt: Its prompt. One that ends in `<think>` has opened the thought, so that the completion does not.
        thinking: Whether the model thinks in tags, where the prompt does not show it (messages, whose template may
            open the thought): `True` makes a completion that was cut inside its thought one without an answer.
            Default: as prompt and completion say.
    """
    text = text_of(completion)
    opened = opened_by_prompt(prompt) if isinstance(prompt, str) else ""
    thinks = CLOSE_TAG not in opened
    if opened and thinks and not text.lstrip().startswith(OPEN_TAG):
        text = opened + text
    elif thinks and thinking and not split_completion(text)[1] and not text.lstrip().startswith(OPEN_TAG):
        text = f"{OPEN_TAG}\n{text}"
    if thinking is False:
        thinks = False
    parsed = parse(text)
    steps = parsed.steps
    if len(steps) == 1 and len(step_starts(text)) <= 2 and "\n" in steps[0]:
        steps = split_steps(steps[0])
    return Chain(text, steps, parsed.answer, parsed.closed, thinks)


def read_chains(
    completions: Sequence[Any], prompts: Sequence[Any] | None, thinking: bool | None = None
) -> list[Chain]:
    """`read_chain` of each completion."""
    told = column("prompts", prompts, len(completions)) if prompts is not None else [""] * len(completions)
    return [read_chain(text, prompt, thinking) for text, prompt in zip(completions, told, strict=True)]


def column(name: str, values: Any, rows: int) -> list[Any]:
    """A column as a list of as many values as there are completions.

    Raises:
        ValueError: a string, or a wrong number of values.
    """
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != rows:
        what = "one string" if isinstance(values, str) else f"{len(values) if hasattr(values, '__len__') else values}"
        raise ValueError(f"{name} must be a list with a value for each of the {rows} completions, got {what}.")
    return list(values)


def references(columns: Mapping[str, Any], rows: int, needed_by: str) -> list[str]:
    """The reference answers: the column `answer` of records, or `solution` of TRL's data sets; "" where there is none.

    Raises:
        ValueError: neither column is there.
    """
    for name in ("answer", "solution"):
        if columns.get(name) is not None:
            return ["" if value is None else str(value).strip() for value in column(name, columns[name], rows)]
    raise ValueError(
        f"{needed_by} needs a reference for each completion: the column 'answer' (or 'solution') of the data set. "
        f"The columns are {', '.join(sorted(columns)) or 'none'}."
    )


def problems(columns: Mapping[str, Any], prompts: Sequence[Any] | None, rows: int) -> list[str]:
    """The problems: the columns `context` and `task` of records, or else the text of the prompts."""
    if columns.get("context") is not None:
        contexts = column("context", columns["context"], rows)
        tasks = column("task", columns["task"], rows) if columns.get("task") is not None else [""] * rows
        return [f"{context or ''}\n{task or ''}".strip() for context, task in zip(contexts, tasks, strict=True)]
    if prompts is None:
        return [""] * rows
    return [text_of(prompt) for prompt in column("prompts", prompts, rows)]
