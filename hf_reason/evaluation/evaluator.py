"""Evaluate a model on records: generate, take the outputs apart, score every step, and sum up.

result = evaluate_model(model, tokenizer, records, max_completion_length=512, distractors=True)
print(result.answer_accuracy, result.by_domain["math"].step_accuracy)
print(format_table(result))
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from hf_reason._renamed import renamed
from hf_reason.data.record import DataError
from hf_reason.data.synthetic.distractors import insert_distractor
from hf_reason.generation.batching import check_counts, decode_ids, generate_ids, model_device
from hf_reason.generation.budgets import thought_budgets
from hf_reason.generation.distributed import once
from hf_reason.generation.limits import check_prompts
from hf_reason.generation.settings import generation_config
from hf_reason.generation.voting import check_voting
from hf_reason.text.multimodal import ImageInputs, tokenizer_in
from hf_reason.text.render import build_prompt, template_hash
from hf_reason.text.spans import record_prompt_ids

from .aggregate import Summary
from .judging import Output, answer_inputs, predictions, read_as_prose, read_outputs, scored_outputs
from .metric_loading import load_metrics
from .prose import is_prose
from .result import EvaluationResult


@dataclass(frozen=True)
class _Run:
    """What is the same for every record of a run."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    reader: Any
    config: Any
    batch_size: int
    num_samples: int
    seed: int
    instructions: Mapping[str, str] | None
    thinking: bool
    tagged: bool
    progress: bool
    max_thought_tokens: int | None

    def prompts(self, records: Sequence[Mapping[str, Any]]) -> list[str]:
        options: dict[str, Any] = {"instructions": self.instructions, "thinking": self.thinking}
        return [build_prompt(record, self.reader, **options) for record in records]

    def ids(self, records: Sequence[Mapping[str, Any]], prompts: Sequence[str]) -> list[list[int]]:
        return [record_prompt_ids(*pair, self.reader) for pair in zip(records, prompts, strict=True)]

    def outputs(
        self, records: Sequence[Mapping[str, Any]], prompts: Sequence[str], ids: Sequence[list[int]]
    ) -> list[Output]:
        """Generate for the records; what was written comes back in the order of records and samples."""
        steer, thought = None, self.max_thought_tokens
        if thought is not None:
            rest = self.config.max_new_tokens - thought
            steer = thought_budgets(self.tokenizer, prompts, self.config, thought, rest)
        written = generate_ids(
            self.model,
            ids,
            self.config,
            batch_size=self.batch_size,
            num_samples=self.num_samples,
            seed=self.seed,
            progress=self.progress and bool(prompts),
            steer=steer,
            tasks=[record.get("domain") for record in records],
            more_inputs=ImageInputs.of(self.reader, prompts, records, ids),
        )
        if steer is None:
            pairs = [[(ids, False) for ids in samples] for samples in written]
        else:
            pairs = [[(sample.ids, sample.closed_by != "model") for sample in samples] for samples in written]

        def decode(ids: Sequence[int]) -> str:
            return decode_ids(self.tokenizer, ids)

        outputs = read_outputs(prompts, pairs, decode)
        prose = self.thinking and not self.tagged and is_prose(output.whole for output in outputs)
        return read_as_prose(outputs, pairs, decode) if prose else outputs


def _checked(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = [dict(record) for record in records]
    if not rows:
        raise DataError("There are no records to evaluate on. Check the split, the domain and the limit.")
    for number, row in enumerate(rows):
        for name, kind in (("context", str), ("steps", list), ("answer", str)):
            if not isinstance(row.get(name), kind):
                raise DataError(
                    f"records[{number}]: field {name!r} is {type(row.get(name)).__name__}, not {kind.__name__}. "
                    "Pass records as hf_reason.data.load_cot_sft_dataset or make_record give them."
                )
        if not all(isinstance(step, str) for step in row["steps"]):
            raise DataError(f"records[{number}]: field 'steps' must be a list of texts, one for each step.")
        try:  # the metrics keep their inputs in Arrow tables, after hours of generation
            "".join((*row["steps"], row["answer"])).encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"records[{number}]: a step or the answer is not valid Unicode: {error.reason}."
            ) from error
    return rows


def _settings(run: _Run) -> dict[str, Any]:
    """The settings that are in force."""
    settings = run.config.to_diff_dict()
    for name in ("transformers_version", "_from_model_config"):
        settings.pop(name, None)
    budget = {} if run.max_thought_tokens is None else {"max_thought_tokens": run.max_thought_tokens}
    return {**dict(sorted(settings.items())), **budget, "batch_size": run.batch_size, "thinking": run.thinking}


@renamed(max_new_tokens="max_completion_length")
def evaluate_model(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    records: Iterable[Mapping[str, Any]],
    *,
    max_completion_length: int = 512,
    max_thought_tokens: int | None = None,
    batch_size: int = 16,
    num_samples: int = 1,
    vote: bool = False,
    temperature: float | None = None,
    seed: int = 0,
    distractors: bool = False,
    instructions: Mapping[str, str] | None = None,
    thinking: bool = True,
    tagged: bool = False,
    generation_kwargs: Mapping[str, Any] | None = None,
    return_predictions: bool = False,
    progress: bool = True,
) -> EvaluationResult:
    """Generate an output for each record and score it against the record's steps and answer.

    The figures are those of the five metrics, which are loaded through `evaluate.load(metric_path(name))`. Model and
    tokenizer are left as they were (mode, settings, padding side). Under a distributed launch every process must call
    this with the same records; each generates its part of the batches, and all get the same result.

    Args:
        model: A causal LM with `generate`, on its device.
        tokenizer: Its tokenizer, or its processor where records have images; prompts are those of
            `hf_reason.text.encode_prompt`.
        records: Records; `context`, `steps` and `answer` are needed, the other fields are used when there. Where a
            record has no answer (`""`) or no steps (`[]`), it does not count in the figures that need them.
        max_completion_length: Longest output, in tokens.
        max_thought_tokens: So many of them for the thought, which is then closed by force (see
            `hf_reason.generation.generate_cot`), and the rest for the answer. The close-rate counts thoughts that the
            model closed itself.
        batch_size: Sequences generated at once.
        num_samples: Outputs for each record. More than one are sampled.
        vote: Score the most frequent answer of a record's samples instead of each answer (self-consistency). All other
            figures still count every output.
        temperature: Samples with it, from the whole distribution; `None` decodes greedily or, when `num_samples` > 1,
            as the model's own `temperature`, `top_p` and `top_k` say. Nothing else of its generation config holds.
        seed: Of the sampling and of the distractors.
        distractors: Also generate with an irrelevant sentence in each problem (`insert_distractor`); doubles the time.
        instructions: Instruction of each domain, as in training.
        thinking: `False` asks a hybrid model for the answer without a thought.
        tagged: Thoughts are expected in tags, as of a model that is trained to write them. By default they are if
            any output of the run has one; else the model writes prose, whose steps and length are taken as they are,
            and there is no close-rate.
        generation_kwargs: More settings of transformers' `GenerationConfig`, for example `top_p`.
        return_predictions: Also return `predictions`: a dict for each output, in the order of records and samples.
        progress: Show bars.

    Returns:
        The figures (see `EvaluationResult`), over all records, by domain and by number of steps of the reference.
        `None` stands where nothing can be said.

    Raises:
        DataError: if there are no records, or one lacks a field.
        ValueError: if the settings contradict each other.
        OSError: if the metrics cannot be loaded because the caches cannot be written.
    """
    rows = _checked(records)
    reader, tokenizer = tokenizer, tokenizer_in(tokenizer)
    check_counts(max_completion_length=max_completion_length, batch_size=batch_size, num_samples=num_samples)
    check_voting(vote, num_samples)
    if max_thought_tokens is not None and (max_thought_tokens >= max_completion_length or not thinking):
        raise ValueError(
            f"max_thought_tokens={max_thought_tokens} is a part of max_completion_length={max_completion_length} and "
            f"needs thinking=True (it is {thinking}): raise max_completion_length, or leave max_thought_tokens out."
        )
    config = generation_config(
        model,
        tokenizer,
        max_new_tokens=max_completion_length,
        num_samples=num_samples,
        temperature=temperature,
        generation_kwargs=generation_kwargs,
    )
    run = _Run(
        model=model,
        tokenizer=tokenizer,
        reader=reader,
        config=config,
        batch_size=batch_size,
        num_samples=num_samples,
        seed=seed,
        instructions=instructions,
        thinking=thinking,
        tagged=tagged,
        progress=progress,
        max_thought_tokens=max_thought_tokens,
    )
    device = model_device(model)
    # Before hours of generation: a cache that cannot be written shows at once.
    once(lambda: bool(load_metrics()), device)
    noisy_rows = [insert_distractor(row, seed) for row in rows] if distractors else []
    everything = [*rows, *noisy_rows]
    prompts = run.prompts(everything)
    ids, count = run.ids(everything, prompts), len(rows)
    check_prompts(model, ids, max_completion_length)
    outputs = run.outputs(rows, prompts[:count], ids[:count])
    noisy = run.outputs(noisy_rows, prompts[count:], ids[count:]) if distractors else []

    def work() -> EvaluationResult:
        metrics = load_metrics()
        resistance: dict[str, Any] = {}
        if noisy:
            inputs = answer_inputs(rows, noisy, vote)
            clean = answer_inputs(rows, outputs, vote)["predictions"]
            resistance = metrics["distractor_resistance"].compute(clean_predictions=clean, **inputs)
        return Summary(metrics).result(
            scored_outputs(rows, outputs, metrics, vote, thinking),
            distracted_accuracy=resistance.get("distracted_accuracy"),
            distractor_resistance=resistance.get("distractor_resistance"),
            num_samples=num_samples,
            vote=vote,
            seed=seed,
            template_hash=template_hash(tokenizer, instructions),
            generation=_settings(run),
            predictions=predictions(rows, outputs, vote) if return_predictions else None,
        )

    return once(work, device)
