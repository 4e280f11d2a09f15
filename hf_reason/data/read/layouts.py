"""One adapter for each layout of published reasoning data: a row of columns -> traces.

`ADAPTERS` is in the order of detection, the most specific layout first. An adapter names the columns it needs;
`a|b` means either. Columns that hold lists only match lists, so that a column `steps` which counts them (an
integer) is not taken for a chain. Rows come in normal form (normal_rows.py): names of columns in their usual
spelling, Chinese ones translated.
"""

from dataclasses import dataclass, replace

from hf_reason.data.record import RawTrace

from . import converters
from .columns import Values, domain_hint
from .common_columns import completed
from .converters import ANSWER, CONTEXT, QUESTION, THOUGHT, Convert, from_columns, from_dialogue, from_message


@dataclass(frozen=True)
class Adapter:
    """A layout.

    Attributes:
        name: What `schema` calls it.
        wants: The columns that make a row one of this layout; `a|b` means either.
        convert: `(row, history)` -> its traces.
        lists: Those of `wants` whose values must be lists.
        domain: The domain of every row, if no column says otherwise.
        dialogue: Whether a list of messages is the row's only source, with the turns before the question in it.
    """

    name: str
    wants: tuple[str, ...]
    convert: Convert
    lists: tuple[str, ...] = ()
    domain: str | None = None
    dialogue: bool = False

    def missing(self, row: Values, types: bool = True) -> list[str]:
        """The columns that `row` lacks for this layout; `types`: or has with another type."""

        def there(want: str) -> bool:
            names = [name for name in want.split("|") if name in row]
            return any(not types or want not in self.lists or isinstance(row[name], list) for name in names)

        return [want for want in self.wants if not there(want)]

    def matches(self, row: Values) -> bool:
        return not self.missing(row)

    def traces(self, row: Values, history: str = "drop") -> list[RawTrace]:
        """The traces of a row, with its domain hint and what `completed` finds in its other columns.

        Raises:
            SourceError: naming the field that cannot be used.
        """
        hint = domain_hint(row) or self.domain
        dialogue = self.dialogue or isinstance(row.get("prompt"), list)
        traces = completed(self.convert(row, history), row, history, "|".join(self.wants), dialogue)
        return [replace(trace, domain=trace.domain or hint) for trace in traces]


_LAYOUTS = (
    Adapter("record", ("context", "task", "steps", "answer"), converters.record, lists=("steps",)),
    Adapter("article", ("context", "steps", "task_desc"), converters.article, lists=("steps",)),
    Adapter("openr1_math", (QUESTION, "generations"), converters.openr1, lists=("generations",)),
    Adapter(
        "r1_distill_sft",
        ("problem", "reannotated_assistant_content"),
        from_message("problem", "reannotated_assistant_content", "solution"),
    ),
    Adapter(
        "openthoughts_metadata",
        ("problem", "deepseek_reasoning", "deepseek_solution"),
        from_columns("problem", "deepseek_reasoning", "deepseek_solution", "ground_truth_solution"),
    ),
    Adapter(
        "medical_o1",
        ("question", "complex_cot", "response"),
        from_columns("question", "complex_cot", "response"),
        domain="medical",
    ),
    Adapter(
        "medical_r1_distill",
        ("question", "reasoning (reasoning_content)", "response (content)"),
        from_columns("question", "reasoning (reasoning_content)", "response (content)"),
        domain="medical",
    ),
    Adapter(
        "general_thought",
        ("question", "model_reasoning", "model_answer"),
        from_columns("question", "model_reasoning", "model_answer", "reference_answer", whole=True),
    ),
    Adapter(
        "s1k",
        ("question", "deepseek_thinking_trajectory", "deepseek_attempt"),
        from_columns("question", "deepseek_thinking_trajectory", "deepseek_attempt", "solution"),
    ),
    Adapter(
        "petro_r1", ("question", "thought_process", "answer"), from_columns("question", "thought_process", "answer")
    ),
    Adapter("long_form_thought", ("question", "combined_text"), from_message("question", "combined_text")),
    Adapter(
        "congliu_r1", ("input", "reasoning_content", "content"), from_columns("input", "reasoning_content", "content")
    ),
    Adapter(
        "openthoughts",
        ("system", "conversations"),
        from_dialogue("conversations"),
        lists=("conversations",),
        dialogue=True,
    ),
    Adapter(
        "magpie_r1",
        ("instruction", "response", "conversations"),
        from_dialogue("conversations"),
        lists=("conversations",),
        dialogue=True,
    ),
    Adapter(
        "conversations", ("conversations",), from_dialogue("conversations"), lists=("conversations",), dialogue=True
    ),
    Adapter("messages", ("messages",), from_dialogue("messages"), lists=("messages",), dialogue=True),
    Adapter("prompt_completion", ("prompt", "completion"), converters.prompt_completion),
    Adapter("instruction_input_output", ("instruction", "input", "output"), from_message("instruction", "output")),
    Adapter("instruction_response", ("instruction", "response"), from_message("instruction", "response")),
    Adapter("instruction_output", ("instruction", "output"), from_message("instruction", "output")),
    Adapter("input_output", ("input", "output"), from_message("input", "output")),
    Adapter(
        "question_reasoning_answer",
        (QUESTION, THOUGHT, "answer|response|content"),
        from_columns(QUESTION, THOUGHT, "answer|response|content", "reference_answer", whole=True),
    ),
    Adapter(
        "context_reasoning_answer",
        ("context", THOUGHT, "answer|response|content"),
        from_columns("context", THOUGHT, "answer|response|content", "reference_answer", whole=True),
    ),
    Adapter(
        "word_problem", ("question|original_text", "equation", "answer|ans"), converters.word_problem, domain="math"
    ),
    Adapter("question_solution_answer", (QUESTION, "solution", "answer"), converters.solution, domain="math"),
    Adapter("question_steps_answer", (CONTEXT, "steps", ANSWER), converters.question_steps, lists=("steps",)),
    Adapter("question_answer", (QUESTION, ANSWER), converters.plain),
)
ADAPTERS: dict[str, Adapter] = {adapter.name: adapter for adapter in _LAYOUTS}
LAYOUTS = tuple(ADAPTERS)
