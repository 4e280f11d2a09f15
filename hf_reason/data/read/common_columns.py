"""What columns mean in every layout: reasoning, earlier turns, a system text, tools, a passage, and signs of a cut.

An adapter says where question and answer are. Its traces then pass through `completed`, so that no layout, old or new,
forgets a reasoning column or a history.
"""

from dataclasses import replace

from hf_reason.data.record import RawTrace

from .columns import Values, text_of
from .converters import marked_solution
from .dialogues import traces_after
from .options import label_at, options_of, with_options
from .reasoning import find_reasoning
from .think_tags import join_thought
from .truncation import is_truncated

# Columns that may hold the index of the right option.
_ANSWERS = ("answer", "response", "output")


def completed(traces: list[RawTrace], row: Values, history: str, wants: str, dialogue: bool) -> list[RawTrace]:
    """The traces of a row with what its other columns say about them.

    Args:
        traces: Those that the row's adapter found; the last one is that of the row's answer.
        row: The row, with normal names.
        history: What happens to earlier turns, see `dialogue_traces`.
        wants: The columns that the adapter reads, separated by `|`.
        dialogue: Whether the traces come from a dialogue, which has its own turns before the question.

    Raises:
        SourceError: for a column that cannot be read.
    """
    *earlier, last = traces
    if not last.thought and not last.steps:
        last = _with_reasoning(last, row)
    if not last.thought and not last.steps and (marked := marked_solution(last.answer)) is not None:
        steps, answer = marked
        last = replace(last, thought=None, steps=steps, answer=answer, reference=last.reference or answer)
    if not last.truncated and "generations" not in wants:  # of several generations the adapter chose
        last = replace(last, truncated=is_truncated(row))
    if dialogue:
        return [*earlier, last]
    if options := options_of(row):
        label = label_at(options, next((row[name] for name in _ANSWERS if name in row), None))
        last = replace(last, context=with_options(last.context, options), answer=label or last.answer)
    if "context" not in wants.split("|"):
        passage = row.get("context")
        if isinstance(passage, str) and passage.strip() and passage.strip() != last.context.strip():
            last = replace(last, context=text_of(row, "context"), task=last.task or last.context)
    before, system, tools = row.get("history"), row.get("system"), row.get("tools")
    if not (before or system or tools):
        return [*earlier, last]
    told = text_of(row, "system") if isinstance(system, str) else ""
    return [*earlier, *traces_after(last, before, history, field="history", system=told, tools=tools)]


def _with_reasoning(trace: RawTrace, row: Values) -> RawTrace:
    found = find_reasoning(row)
    if isinstance(found, list):
        return replace(trace, thought=None, steps=found)
    if not found:
        return trace
    parts = join_thought(found, trace.answer)
    return replace(trace, thought=parts.thought, answer=parts.answer, steps=None, closed=parts.closed)
