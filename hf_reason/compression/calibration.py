"""What a compression is calibrated on: the model's own verified chains, reference chains, or any text.

A compressed model keeps what its calibration exercises. On plain text the quantiser never sees `<think>`, equations
and the end of a thought, which is where a reasoning model then fails.
"""

import json
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from hf_reason._files import digest
from hf_reason._journal import Journal
from hf_reason.data.output_folder import in_turn
from hf_reason.evaluation import evaluate_model
from hf_reason.evaluation.prose import is_prose, read_prose
from hf_reason.text.render import opened_by_prompt, template_hash
from hf_reason.text.spans import IGNORE_INDEX, PROMPT, completion_spans, encode, prompt_token_ids
from hf_reason.text.tokens import end_token_id
from hf_reason.traces.reading import first_wrong

from .errors import CalibrationError

Progress = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Calibration:
    """Texts to calibrate on.

    Attributes:
        kind: `self`, `traces` or `text`.
        examples: Encoded, `input_ids` and `labels` each.
        tried: Problems that were asked (`self`), or records or windows that there were.
    """

    kind: str
    examples: list[dict[str, list[int]]]
    tried: int

    def training_rows(self, tokenizer: Any) -> list[dict[str, list[int]]]:
        """The texts as encoded rows that the trainers take: `input_ids`, `labels`, `segment_ids`, `step_ids`."""
        rows = []
        for example in self.examples:
            prompt = next((place for place, label in enumerate(example["labels"]) if label != IGNORE_INDEX), 0)
            spans = completion_spans(example["input_ids"][prompt:], tokenizer)
            before = {"segment_ids": [PROMPT] * prompt, "step_ids": [0] * prompt}
            rows.append({**example, **{name: before[name] + spans[name] for name in before}})
        return rows

    def __str__(self) -> str:
        lengths = [len(example["input_ids"]) for example in self.examples]
        return (
            f"calibration on {len(lengths)} texts ({self.kind}; of {self.tried}): {min(lengths)} to {max(lengths)} "
            f"tokens, median {median(lengths):g}, together {sum(lengths)}"
        )


def reference_chains(
    records: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    count: int,
    *,
    max_length: int = 4096,
    instructions: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Calibration:
    """Whole chains of the records, through the prompt builder of the training; those over `max_length` are left out.

    Raises:
        CalibrationError: if there are fewer than `count`.
    """
    found = []
    for record in _shuffled([record for record in records if record["steps"]], seed):
        example = encode(record, tokenizer, instructions=instructions)
        if len(example["input_ids"]) <= max_length:
            found.append({name: example[name] for name in ("input_ids", "labels")})
        if len(found) == count:
            break
    return _enough(Calibration("traces", found, len(records)), count, "records with steps")


def text_windows(path: str | os.PathLike[str], tokenizer: Any, count: int, *, max_length: int = 512) -> Calibration:
    """Windows of `max_length` tokens of a text file, evenly spaced.

    Raises:
        CalibrationError: if the file cannot be read as UTF-8, or has fewer than `count` windows.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"calibration: {path} cannot be read as a UTF-8 text: {error}.") from error
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    windows = [ids[start : start + max_length] for start in range(0, len(ids) - max_length + 1, max_length)]
    chosen = [windows[place * len(windows) // count] for place in range(count)] if len(windows) >= count else windows
    found = Calibration("text", [{"input_ids": list(ids), "labels": list(ids)} for ids in chosen], len(windows))
    return _enough(found, count, f"windows of {max_length} tokens")


def own_chains(
    model: Any,
    tokenizer: Any,
    records: Sequence[Mapping[str, Any]],
    count: int,
    *,
    path: str | os.PathLike[str],
    batch_size: int = 16,
    max_completion_length: int = 2048,
    instructions: Mapping[str, str] | None = None,
    seed: int = 0,
    progress: Progress = iter,
) -> Calibration:
    """Chains that the model itself writes on the problems of the records, where answer and equations are right.

    An output counts if its answer is right, every equation of its steps holds, and it closed its thought (or wrote
    none). Each batch is written to `path` at once: a killed run resumes there. Runs that share the file wait for each
    other, and the second finds what the first has written.

    Args:
        model: The model before the compression, on its device.
        tokenizer: Its tokenizer.
        records: Problems with answers, other ones than those that judge the result.
        count: Chains that are needed.
        path: JSON lines; a file of another model or other settings is replaced.
        batch_size: Problems asked at once.
        max_completion_length: Longest output, in tokens.
        instructions: Template of each domain.
        seed: Of the order of the problems.
        progress: Wraps the batches.

    Raises:
        CalibrationError: if fewer than `count` of the outputs are right.
    """
    order = _shuffled([record for record in records if record["answer"]], seed)
    names = [str(record.get("id") or record["context"]) for record in order]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    settings = [template_hash(tokenizer, instructions), max_completion_length, parameters, seed]
    key = digest(json.dumps([*settings, str(getattr(model, "name_or_path", ""))]), *names)
    with in_turn(Path(path)):
        journal = Journal(path, {"chains": key}, replace=True)
        rows = list(journal)
        batches = range(len(rows), len(order), batch_size)
        for start in progress(batches):
            if sum(row["right"] for row in rows) >= count:
                break
            asked = order[start : start + batch_size]
            new = _answered(model, tokenizer, asked, batch_size, max_completion_length, instructions)
            journal.add(new)
            rows += new
    right = [_encoded(row, tokenizer) for row in rows if row["right"]][:count]
    return _enough(Calibration("self", right, len(rows)), count, "verified chains of the model's own")


def _answered(
    model: Any,
    tokenizer: Any,
    records: Sequence[Mapping[str, Any]],
    batch_size: int,
    max_completion_length: int,
    instructions: Mapping[str, str] | None,
) -> list[dict[str, Any]]:
    result = evaluate_model(
        model,
        tokenizer,
        records,
        batch_size=batch_size,
        max_completion_length=max_completion_length,
        instructions=instructions,
        return_predictions=True,
        progress=False,
    )
    rows = result.predictions or []
    plain = [is_prose([opened_by_prompt(row["prompt"]) + row["text"]]) for row in rows]
    # a tag in one output of a model that knows none says nothing about the others
    prose = 2 * sum(plain) > len(rows)
    found = []
    for row, has_no_tag in zip(rows, plain, strict=True):
        right = bool(row["correct"]) and row["num_tokens"] < max_completion_length
        if right and prose and has_no_tag:
            right = first_wrong(read_prose(row["text"])[0], row["answer"], "", "equations") is None
        elif right:
            closed = row["closed"] or not row["thought_tokens"]
            right = closed and first_wrong(row["steps"], row["answer"], "", "equations") is None
        found.append({"prompt": row["prompt"], "text": row["text"], "right": right})
    return found


def _encoded(row: Mapping[str, Any], tokenizer: Any) -> dict[str, list[int]]:
    prompt = prompt_token_ids(row["prompt"], tokenizer)
    completion = [*tokenizer(row["text"], add_special_tokens=False)["input_ids"], end_token_id(tokenizer)]
    return {"input_ids": prompt + completion, "labels": [IGNORE_INDEX] * len(prompt) + completion}


def _shuffled(records: Sequence[Mapping[str, Any]], seed: int) -> list[Mapping[str, Any]]:
    order = list(records)
    random.Random(seed).shuffle(order)
    return order


def _enough(found: Calibration, count: int, what: str) -> Calibration:
    if len(found.examples) < count:
        raise CalibrationError(
            f"calibration needs {count} {what}, but of {found.tried} there are {len(found.examples)}. Give more data, "
            "choose another --calibration (self, traces, or a text file), or lower --calibration_records."
        )
    return found
