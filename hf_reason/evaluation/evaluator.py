"""Evaluate a model on records: generate, take the outputs apart, score every step, and sum up.

results = evaluate_model(model, tokenizer, records, max_new_tokens=512, distractors=True)
print(format_table(results))
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from hf_reason.data.record import DataError, cjk_share
from hf_reason.data.synthetic.distractors import insert_distractor
from hf_reason.generation.batching import decode_ids, generate_ids, generation_config, model_device
from hf_reason.generation.budgets import thought_budgets
from hf_reason.generation.distributed import once
from hf_reason.text.render import CLOSE_TAG, OPEN_TAG, build_prompt, opened_by_prompt, parse, template_hash
from hf_reason.text.spans import prompt_token_ids

from . import scoring
from .aggregate import ScoredOutput, all_figures, answer_accuracy


@dataclass(frozen=True)
class _Run:
    """What is the same for every record of a run."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    config: Any
    batch_size: int
    num_samples: int
    seed: int
    instructions: Mapping[str, str] | None
    thinking: bool
    progress: bool
    max_thought_tokens: int | None

    def prompts(self, records: Sequence[Mapping[str, Any]]) -> list[str]:
        options: dict[str, Any] = {"instructions": self.instructions, "thinking": self.thinking}
        return [build_prompt(record, self.tokenizer, **options) for record in records]

    def generate(
        self, prompts: Sequence[str], records: Sequence[Mapping[str, Any]]
    ) -> list[list[tuple[list[int], bool]]]:
        """The outputs of each prompt: their tokens, and whether the thought was closed by force."""
        steer, thought = None, self.max_thought_tokens
        if thought is not None:
            rest = self.config.max_new_tokens - thought
            steer = thought_budgets(self.tokenizer, prompts, self.config, thought, rest)
        outputs = generate_ids(
            self.model,
            [prompt_token_ids(prompt, self.tokenizer) for prompt in prompts],
            self.config,
            batch_size=self.batch_size,
            num_samples=self.num_samples,
            seed=self.seed,
            progress=self.progress and bool(prompts),
            steer=steer,
            tasks=[record.get("domain") for record in records],
        )
        if steer is None:
            return [[(ids, False) for ids in samples] for samples in outputs]
        return [[(written.ids, written.closed_by != "model") for written in samples] for samples in outputs]

    def decode(self, ids: Sequence[int]) -> str:
        return decode_ids(self.tokenizer, ids)


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
    return rows


def _thought_tokens(run: _Run, ids: Sequence[int], text: str, opened: str) -> int:
    """Generated tokens up to the one that completes `</think>`."""
    if CLOSE_TAG not in text:
        return 0 if parse(opened + text).closed else len(ids)
    low, high = 1, len(ids)
    while low < high:
        middle = (low + high) // 2
        if CLOSE_TAG in run.decode(ids[:middle]):
            high = middle
        else:
            low = middle + 1
    return low


def _prediction(
    run: _Run, record: Mapping[str, Any], prompt: str, output: tuple[list[int], bool], sample: int
) -> dict[str, Any]:
    """One output, taken apart."""
    ids, forced = output
    text = run.decode(ids)
    # What the prompt has opened belongs to the output: else a thought that was cut looks like an answer.
    opened = opened_by_prompt(prompt)
    parsed = parse(opened + text)
    return {
        "id": record.get("id", ""),
        "sample": sample,
        "prompt": prompt,
        "text": text,
        "steps": parsed.steps,
        "answer": parsed.answer,
        "reference": record["answer"],
        "closed": scoring.is_closed(opened + text) and not forced,
        "correct": scoring.answer_correct(parsed.answer, record["answer"]),
        "num_tokens": len(ids),
        "thought_tokens": _thought_tokens(run, ids, text, opened),
    }


def _scored(number: int, record: Mapping[str, Any], prediction: Mapping[str, Any]) -> ScoredOutput:
    steps, text = prediction["steps"], prediction["text"]
    covered, key_results = scoring.key_coverage(steps, record["steps"])
    language = record.get("language") or ("zh" if cjk_share(record["context"]) >= 0.5 else "en")
    plain = text.replace(OPEN_TAG, "").replace(CLOSE_TAG, "").strip()
    return ScoredOutput(
        record=number,
        domain=record.get("domain") or "general",
        reference_steps=len(record["steps"]),
        correct=prediction["correct"],
        steps=len(steps),
        step_score=scoring.score_steps(steps, record["steps"]),
        covered=covered,
        key_results=key_results,
        thought_tokens=prediction["thought_tokens"],
        closed=prediction["closed"],
        loops=scoring.is_loop(text, steps),
        chinese=cjk_share(plain) if plain and language == "zh" else None,
    )


def _judge(
    run: _Run,
    records: Sequence[Mapping[str, Any]],
    prompts: Sequence[str],
    outputs: Sequence[Sequence[tuple[list[int], bool]]],
) -> tuple[list[dict[str, Any]], list[ScoredOutput]]:
    predictions, scored = [], []
    for number, (record, prompt, samples) in enumerate(zip(records, prompts, outputs, strict=True)):
        for sample, output in enumerate(samples):
            prediction = _prediction(run, record, prompt, output, sample)
            predictions.append(prediction)
            scored.append(_scored(number, record, prediction))
    return predictions, scored


def _settings(run: _Run) -> dict[str, Any]:
    """The settings that are in force: the run's, and below them the model's own."""
    own = getattr(run.model, "generation_config", None)
    settings = {**(own.to_diff_dict() if own is not None else {}), **run.config.to_diff_dict()}
    for name in ("transformers_version", "_from_model_config"):
        settings.pop(name, None)
    budget = {} if run.max_thought_tokens is None else {"max_thought_tokens": run.max_thought_tokens}
    return {**dict(sorted(settings.items())), **budget, "batch_size": run.batch_size, "thinking": run.thinking}


def evaluate_model(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    records: Iterable[Mapping[str, Any]],
    *,
    max_new_tokens: int = 512,
    max_thought_tokens: int | None = None,
    batch_size: int = 16,
    num_samples: int = 1,
    temperature: float | None = None,
    seed: int = 0,
    distractors: bool = False,
    instructions: Mapping[str, str] | None = None,
    thinking: bool = True,
    generation_kwargs: Mapping[str, Any] | None = None,
    return_predictions: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Generate an output for each record and score it against the record's steps and answer.

    Model and tokenizer are left as they were (mode, settings, padding side). Under a distributed launch every
    process must call this with the same records; each generates its share, and all get the same result.

    Args:
        model: A causal LM with `generate`, on its device.
        tokenizer: Its tokenizer; prompts are those of `hf_reason.text.encode_prompt`.
        records: Records; `context`, `steps` and `answer` are needed, the other fields are used when there.
        max_new_tokens: Longest output, in tokens.
        max_thought_tokens: So many of them for the thought, which is then closed by force (see
            `hf_reason.generation.generate_cot`), and the rest for the answer. The close-rate counts thoughts that the
            model closed itself.
        batch_size: Sequences generated at once.
        num_samples: Outputs a record. More than one are sampled.
        temperature: Samples with it; `None` decodes greedily, or with the model's own temperature when
            `num_samples` > 1.
        seed: Of the sampling and of the noise.
        distractors: Also generate with an irrelevant sentence in each problem (`insert_distractor`); doubles the time.
        instructions: Instruction of each domain, as in training.
        thinking: `False` asks a hybrid model for the answer without a thought.
        generation_kwargs: More settings of transformers' `GenerationConfig`, for example `top_p`.
        return_predictions: Add `"predictions"`: a dict for each output, in the order of records and samples.
        progress: Show bars.

    Returns:
        A dict that can be written as JSON. `None` stands where nothing can be said. With several samples
        `answer_accuracy` is the mean over samples, then over records, and its interval counts records; all other
        figures count every output. Keys: `answer_accuracy`, `answer_accuracy_ci` (95%, [low, high]),
        `step_accuracy`, `equations_hold`, `checkable_share`, `key_node_coverage`, `reasoning_length`
        (`mean_tokens`, `median_tokens`, `p95_tokens`, `mean_steps`, `histogram`), `close_rate`, `repeat_rate`,
        `language_ratio` (share of Chinese in the outputs to Chinese problems), `distractor_resistance`,
        `distracted_accuracy`, `by_domain`, `by_num_steps` (the same figures, by steps of the reference),
        `num_records`, `num_samples`, `seed`, `template_hash`, `generation` (the settings).

    Raises:
        DataError: if there are no records, or one lacks a field.
        ValueError: if the settings contradict each other.
    """
    rows = _checked(records)
    for name, value in (("max_new_tokens", max_new_tokens), ("batch_size", batch_size), ("num_samples", num_samples)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")
    if max_thought_tokens is not None and (max_thought_tokens >= max_new_tokens or not thinking):
        raise ValueError(
            f"max_thought_tokens={max_thought_tokens} is a part of max_new_tokens={max_new_tokens} and needs "
            f"thinking=True (it is {thinking}): raise max_new_tokens, or leave the thought's budget out."
        )
    config = generation_config(
        model,
        tokenizer,
        max_new_tokens=max_new_tokens,
        num_samples=num_samples,
        temperature=temperature,
        generation_kwargs=generation_kwargs,
    )
    run = _Run(
        model, tokenizer, config, batch_size, num_samples, seed, instructions, thinking, progress, max_thought_tokens
    )
    prompts = run.prompts(rows)
    outputs = run.generate(prompts, rows)
    noisy_rows = [insert_distractor(row, seed) for row in rows] if distractors else []
    noisy_prompts = run.prompts(noisy_rows)
    noisy_outputs = run.generate(noisy_prompts, noisy_rows)

    def work() -> dict[str, Any]:
        predictions, scored = _judge(run, rows, prompts, outputs)
        results = all_figures(scored)
        noisy = answer_accuracy(_judge(run, noisy_rows, noisy_prompts, noisy_outputs)[1])[0]
        clean = results["answer_accuracy"]
        results["distracted_accuracy"] = noisy
        results["distractor_resistance"] = None if noisy is None or clean is None else scoring.ratio(noisy, clean)
        results |= {"num_records": len(rows), "num_samples": num_samples, "seed": seed}
        results |= {"template_hash": template_hash(tokenizer, instructions), "generation": _settings(run)}
        return results | ({"predictions": predictions} if return_predictions else {})

    return once(work, model_device(model))
