"""What a model wrote: read, and scored by the loaded metrics."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_reason.data.languages import cjk_ratio, detect_language
from hf_reason.generation.voting import elect
from hf_reason.text.render import CLOSE_TAG, OPEN_TAG, Parsed, opened_by_prompt, parse, split_completion

from . import scoring
from .aggregate import ScoredOutput
from .prose import read_prose

if TYPE_CHECKING:
    from .metric_base import ReasoningMetric

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Output:
    """One output, read into steps and answer.

    Attributes:
        record, sample: Its numbers.
        prompt: What the model was given.
        text: What it wrote.
        whole: The same after what the prompt has opened: otherwise a thought that was cut looks like an answer.
        parsed: Its steps and its answer.
        num_tokens: Its length.
        thought_tokens: Tokens up to and including the one that completes `</think>`.
        forced: Whether a budget closed the thought.
        prose: Whether the model writes no thought in tags (`read_as_prose`).
    """

    record: int
    sample: int
    prompt: str
    text: str
    whole: str
    parsed: Parsed
    num_tokens: int
    thought_tokens: int
    forced: bool
    prose: bool = False


def read_outputs(
    prompts: Sequence[str], written: Sequence[Sequence[tuple[list[int], bool]]], decode: Decode
) -> list[Output]:
    """The outputs of a run, in the order of records and samples.

    Args:
        prompts: One for each record.
        written: For each of them the outputs: their tokens, and whether the thought was closed by force.
        decode: Tokens to text.
    """
    return list(_read(prompts, written, decode))


def _read(
    prompts: Sequence[str], written: Sequence[Sequence[tuple[list[int], bool]]], decode: Decode
) -> Iterator[Output]:
    for record, (prompt, samples) in enumerate(zip(prompts, written, strict=True)):
        opened = opened_by_prompt(prompt)
        for sample, (ids, forced) in enumerate(samples):
            text = decode(ids)
            whole = opened + text
            length = _thought_tokens(decode, ids, text, whole)
            yield Output(record, sample, prompt, text, whole, parse(whole), len(ids), length, forced)


def _thought_tokens(decode: Decode, ids: Sequence[int], text: str, whole: str) -> int:
    head, tag, _ = split_completion(whole)
    written = len(head) + len(CLOSE_TAG) - (len(whole) - len(text))
    if not tag or written <= 0:
        return 0 if parse(whole).closed else len(ids)
    return _tokens_until(decode, ids, written)


def _tokens_until(decode: Decode, ids: Sequence[int], characters: int) -> int:
    """The fewest tokens that hold so many characters."""
    low, high = min(characters, 1), len(ids)
    while low < high:
        middle = (low + high) // 2
        if len(decode(ids[:middle])) >= characters:
            high = middle
        else:
            low = middle + 1
    return low


def read_as_prose(
    outputs: Sequence[Output], written: Sequence[Sequence[tuple[list[int], bool]]], decode: Decode
) -> list[Output]:
    """The outputs of a model that writes no tags: the steps of their prose, and the tokens until their answers begin.

    Args:
        outputs: Of `read_outputs`, and so are the others.
        written: Tokens, one list for each output of each record.
        decode: Tokens to text.
    """
    found = []
    for output in outputs:
        steps, start = read_prose(output.text)
        tokens = _tokens_until(decode, written[output.record][output.sample][0], start)
        parsed = Parsed(steps, output.parsed.answer, True)
        found.append(replace(output, parsed=parsed, thought_tokens=tokens, prose=True))
    return found


def elected(outputs: Sequence[Output]) -> list[Output]:
    """For each output the one that stands for its record: the first that gave the record's most frequent answer."""
    by_record: dict[int, list[Output]] = {}
    for output in outputs:
        by_record.setdefault(output.record, []).append(output)
    winners = {
        record: samples[elect([output.parsed.answer for output in samples])] for record, samples in by_record.items()
    }
    return [winners[output.record] for output in outputs]


def scored_outputs(
    records: Sequence[Mapping[str, Any]],
    outputs: Sequence[Output],
    metrics: "Mapping[str, ReasoningMetric]",
    vote: bool,
    thinking: bool = True,
) -> list[ScoredOutput]:
    """Every output with its score in each metric.

    Args:
        records: All of the run.
        outputs: Of `read_outputs`.
        metrics: The loaded metrics.
        vote: Whether the answer of an output is the one that its record's outputs voted for.
        thinking: Whether a thought was asked for.
    """
    texts, prose = [output.whole for output in outputs], any(output.prose for output in outputs)
    steps = [list(records[output.record]["steps"]) for output in outputs]
    inputs: dict[str, dict[str, Any]] = {
        "answer_accuracy": answer_inputs(records, outputs, vote),
        "step_accuracy": {"predictions": texts, "references": steps, "prose": prose},
        "key_node_coverage": {"predictions": texts, "references": steps, "prose": prose},
        "reasoning_length": {
            "predictions": texts,
            "thought_tokens": [output.thought_tokens for output in outputs],
            "forced": [output.forced for output in outputs],
            "thinking": thinking,
            "prose": prose,
        },
    }
    scores = {
        name: metrics[name].compute(**columns, use_aggregator=False)["scores"] for name, columns in inputs.items()
    }
    return [
        ScoredOutput(
            record=output.record,
            domain=records[output.record].get("domain") or "general",
            reference_steps=len(records[output.record]["steps"]),
            thought_tokens=output.thought_tokens,
            closed=_closed(output) is not False,
            chinese=_chinese(records[output.record], output),
            scores={name: scores[name][number] for name in scores},
        )
        for number, output in enumerate(outputs)
    ]


def answer_inputs(records: Sequence[Mapping[str, Any]], outputs: Sequence[Output], vote: bool) -> dict[str, Any]:
    """What the metric `answer_accuracy` gets."""
    return {
        "predictions": [output.whole for output in (elected(outputs) if vote else outputs)],
        "references": [records[output.record]["answer"] for output in outputs],
        "records": [output.record for output in outputs],
    }


def _closed(output: Output) -> bool | None:
    return None if output.prose else scoring.is_closed(output.whole) and not output.forced


def _chinese(record: Mapping[str, Any], output: Output) -> float | None:
    language = record.get("language") or detect_language(record["context"])
    plain = output.text.replace(OPEN_TAG, "").replace(CLOSE_TAG, "").strip()
    return cjk_ratio(plain) if plain and language == "zh" else None


def predictions(records: Sequence[Mapping[str, Any]], outputs: Sequence[Output], vote: bool) -> list[dict[str, Any]]:
    """A dictionary for each output, for people and for JSON."""
    found: list[dict[str, Any]] = []
    for output, winner in zip(outputs, elected(outputs) if vote else outputs, strict=True):
        record = records[output.record]
        found.append(
            {
                "id": record.get("id", ""),
                "sample": output.sample,
                "prompt": output.prompt,
                "text": output.text,
                "steps": output.parsed.steps,
                "answer": output.parsed.answer,
                "reference": record["answer"],
                "closed": _closed(output),
                "correct": scoring.answer_correct(output.parsed.answer, record["answer"]),
                "num_tokens": output.num_tokens,
                "thought_tokens": output.thought_tokens,
                **({"elected": winner is output} if vote else {}),
            }
        )
    return found
