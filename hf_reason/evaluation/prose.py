"""Outputs of models that write no thought in tags: the steps of their prose, and where it comes to the answer."""

from collections.abc import Iterable

from hf_reason.answers.equations import find_equations
from hf_reason.answers.final import final_part
from hf_reason.data.segment.steps import split_steps
from hf_reason.text.render import CLOSE_TAG, OPEN_TAG, closes, parse


def is_prose(outputs: Iterable[str]) -> bool:
    """Whether the outputs of a run (after what their prompts have opened) are prose: none has a tag or a step label.

    One tag says that the model knows them; then the outputs without any are failures, and are counted as such.
    """
    written = [text for text in outputs if text.strip()]
    return bool(written) and not any(CLOSE_TAG in text or OPEN_TAG in text or not closes(text) for text in written)


def read_prose(text: str) -> tuple[list[str], int]:
    """The steps of an output without tags, and the character at which its final answer begins.

    The answer is the part that `hf_reason.answers.final.final_part` finds. A last step that only states it is none.
    """
    part, _ = final_part(text)
    start = text.rfind(part) if part else len(text)
    if start < 0:  # put together from several places: the last line
        start = text.rstrip().rfind("\n") + 1
    steps = split_steps(text.strip())
    if steps and part and part in steps[-1] and not find_equations(steps[-1]):
        steps.pop()  # it only states the answer
    return steps, start


def steps_of(text: str, prose: bool) -> list[str]:
    """The steps of an output, as `prose` says how to read it."""
    return read_prose(text)[0] if prose else parse(text).steps
