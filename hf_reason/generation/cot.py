"""Two-stage generation of a chain of thought: the thought within its budget, then the answer from the thought.

for output in generate_cot(model, tokenizer, ["小明有12个苹果,又买来25个。现在有多少个?"], max_thought_tokens=256):
    print(output.steps, output.answer)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from hf_reason._renamed import renamed
from hf_reason.text.multimodal import ImageInputs, tokenizer_in
from hf_reason.text.render import OPEN_TAG, build_prompt, opened_by_prompt, parse, split_completion
from hf_reason.text.spans import record_prompt_ids

from .batching import check_counts, decode_ids, generate_ids
from .budgets import Written, thought_budgets
from .settings import generation_config
from .voting import Vote, check_voting, count_votes, elect


@dataclass(frozen=True)
class CoTOutput:
    """A chain of thought with its answer.

    Attributes:
        prompt: What the model was given, as text.
        thought: The text between the tags.
        steps: The thought's steps, without their labels.
        answer: The text after the thought.
        closed_by: Who closed the thought: "model"; "budget", when `max_thought_tokens` were used up; "stop", when the
            model was about to end its output without an answer.
        thought_tokens: Tokens of the thought, both tags included (the opening one unless the prompt has written it).
        answer_tokens: Tokens after `</think>`, without the stop token.
        ended: Whether the model ended the answer; `False` where `max_answer_tokens` did.
        votes: With `vote`, the different answers and how many chains gave them, the winner first.
        chains: With several samples, all the chains, in the order in which they were sampled.
    """

    prompt: str
    thought: str
    steps: list[str]
    answer: str
    closed_by: str
    thought_tokens: int
    answer_tokens: int
    ended: bool
    votes: list[Vote] = field(default_factory=list)
    chains: "list[CoTOutput]" = field(default_factory=list)

    @property
    def forced(self) -> bool:
        """Whether the thought was closed by force."""
        return self.closed_by != "model"


@renamed(num_votes="num_samples, with vote=True")
def generate_cot(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: "str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]",
    *,
    max_thought_tokens: int = 1024,
    max_answer_tokens: int = 256,
    num_samples: int = 1,
    vote: bool = False,
    temperature: float | None = None,
    seed: int = 0,
    batch_size: int = 16,
    instructions: Mapping[str, str] | None = None,
    generation_kwargs: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> list[CoTOutput]:
    """Think, then answer; each within its own budget.

    Both stages are one sequence of one call of `generate`: the cache is used throughout, a row whose thought is closed
    continues with its answer at once, and whatever reads the prompt (a router, an encoder) reads it once. Where the
    chat template has not opened the thought, `<think>` is written for the model; `ThoughtBudget` says when a thought
    is closed by force. Where nothing is forced, greedy output is that of plain `generate`.

    Under a distributed launch every process must call this with the same prompts; all get all outputs.

    Args:
        model: A causal language model with `generate`, on its device: decoder-only, StepReasoner, with adapters.
        tokenizer: The model's; its processor, where records have images.
        prompts: Questions, or records (`context`, and optionally `task`, `domain` and `images`); a single one counts
            as a list of one.
        max_thought_tokens: Most tokens of the thought, both tags included.
        max_answer_tokens: Most tokens of the answer, the stop token included.
        num_samples: Chains sampled for each prompt; all of them are in the output's `chains`.
        vote: Whether the most frequent answer wins, of equally frequent ones the one that was given first: the output
            is the first chain that gave it, and `votes` has the counts. Else the output is the first chain.
        temperature: Samples with it, from the whole distribution. `None` is greedy or, with several samples, as the
            model's own `temperature`, `top_p` and `top_k` say. Nothing else of its generation config holds.
        seed: Of the sampling.
        batch_size: Sequences generated at once.
        instructions: Instruction of each domain, as in training.
        generation_kwargs: More settings of transformers' `GenerationConfig`, for example `top_p` or
            `repetition_penalty`. What cannot work within the budgets is refused (docs/ask.md).
        progress: Show a bar.

    Returns:
        An output for each prompt, in their order. With several samples it is one of its `chains`.

    Raises:
        ValueError: for an empty question, a budget that leaves no room, several samples without sampling, a vote of
            one sample, settings that budgets cannot steer (beam search, for one), a chat template that closes the
            thought in its generation prompt, a vocabulary without the tags, an encoder-decoder model, or prompts that
            the model cannot read (`hf_reason.generation.limits.check_prompts`).
    """
    rows = _rows(prompts)
    reader, tokenizer = tokenizer, tokenizer_in(tokenizer)
    check_counts(max_answer_tokens=max_answer_tokens, num_samples=num_samples, batch_size=batch_size)
    settings = dict(generation_kwargs or {})
    check_voting(vote, num_samples)
    if num_samples > 1 and (temperature == 0 or settings.get("do_sample") is False):
        raise ValueError(
            f"num_samples={num_samples} without sampling gives {num_samples} equal chains. Set a temperature above 0, "
            "or num_samples=1."
        )
    config = generation_config(
        model,
        tokenizer,
        max_new_tokens=max_thought_tokens + max_answer_tokens,
        num_samples=num_samples,
        temperature=temperature,
        generation_kwargs=settings,
    )
    texts = [build_prompt(row, reader, instructions=instructions) for row in rows]
    ids = [record_prompt_ids(row, text, reader) for row, text in zip(rows, texts, strict=True)]
    written = generate_ids(
        model,
        ids,
        config,
        batch_size=batch_size,
        num_samples=num_samples,
        seed=seed,
        progress=progress,
        steer=thought_budgets(tokenizer, texts, config, max_thought_tokens, max_answer_tokens),
        tasks=[row.get("domain") for row in rows],
        more_inputs=ImageInputs.of(reader, texts, rows, ids),
    )
    return [
        _chosen([_output(tokenizer, text, sample) for sample in samples], vote)
        for text, samples in zip(texts, written, strict=True)
    ]


def _rows(prompts: Any) -> list[Mapping[str, Any]]:
    given = [prompts] if isinstance(prompts, str | Mapping) else list(prompts)
    rows = [{"context": prompt} if isinstance(prompt, str) else prompt for prompt in given]
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or not isinstance(row.get("context"), str):
            raise ValueError(f"prompts[{number}] is neither a question nor a record with a 'context'.")
        if not row["context"].strip():
            raise ValueError(f"prompts[{number}] is empty: there is no question.")
    return rows


def _output(tokenizer: PreTrainedTokenizerBase, prompt: str, written: Written) -> CoTOutput:
    text = opened_by_prompt(prompt) + decode_ids(tokenizer, written.ids)
    parsed = parse(text)
    return CoTOutput(
        prompt=prompt,
        thought=split_completion(text)[0].lstrip().removeprefix(OPEN_TAG).strip(),
        steps=parsed.steps,
        answer=parsed.answer,
        closed_by=written.closed_by,
        thought_tokens=written.thought_tokens,
        answer_tokens=len(written.ids) - written.thought_tokens,
        ended=written.ended,
    )


def _chosen(chains: list[CoTOutput], vote: bool) -> CoTOutput:
    if len(chains) == 1:
        return chains[0]
    answers = [chain.answer for chain in chains]
    winner = chains[elect(answers) if vote else 0]
    return CoTOutput(**{**vars(winner), "votes": count_votes(answers) if vote else [], "chains": chains})
