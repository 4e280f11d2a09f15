"""A model in this process with its adapters: prompts for it, and batches of chains on it."""

import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from hf_reason.generation.budgets import BudgetRow, Frame
from hf_reason.generation.kept import Kept
from hf_reason.generation.limits import check_prompts
from hf_reason.generation.live import LiveChain, Sampling, run_batch
from hf_reason.generation.settings import generation_config
from hf_reason.generation.shrinking import can_shrink
from hf_reason.models.context import position_limit
from hf_reason.text.conversation import build_conversation
from hf_reason.text.render import CLOSE_TAG, opened_by_prompt
from hf_reason.text.spans import prompt_token_ids

from .base import LEAST_ANSWER, LEAST_THOUGHT, Job, ModelCard


@dataclass
class ServedModel:
    """A model with its tokenizer.

    Attributes:
        card: Its name.
        model: On its device, in evaluation mode; a `PeftModel` where there are `adapters`.
        tokenizer: Its own.
        instructions: Template of each domain.
        adapters: Name of each adapter in requests, behind the colon -> its card; PEFT knows it by the same name.
    """

    card: ModelCard
    model: Any
    tokenizer: Any
    instructions: Mapping[str, str] = field(default_factory=dict)
    adapters: dict[str, ModelCard] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.config = generation_config(self.model, self.tokenizer, max_new_tokens=1)
        self.sampled = generation_config(
            self.model, self.tokenizer, max_new_tokens=1, generation_kwargs={"do_sample": True}
        )
        self.keeps = can_shrink(self.model, self.config)  # a batch's rows are not read again after a pause

    def cards(self) -> list[ModelCard]:
        """The model's, and those of its adapters."""
        return [self.card, *self.adapters.values()]

    def prepare(self, job: Job, max_prompt_tokens: int) -> LiveChain:
        """The chain of a job, checked.

        Raises:
            ValueError: for messages that the model cannot read, a budget without room, or a context that is too short.
        """
        prompt = job.prompt
        text = build_conversation(
            prompt.messages,
            self.tokenizer,
            task=prompt.task,
            domain=prompt.domain,
            instructions=self.instructions,
            thinking=prompt.thinking,
        )
        ids = prompt_token_ids(text, self.tokenizer)
        if len(ids) > max_prompt_tokens:
            raise ValueError(f"The messages have {len(ids)} tokens; this server reads at most {max_prompt_tokens}.")
        check_prompts(self.model, [ids], 1)
        budget = self._budget(job, text, self._room(len(ids)))
        return LiveChain(
            ids,
            budget,
            self._sampling(job),
            on_token=lambda chain, token, thought: None,
            domain=prompt.domain or None,
            num_logprobs=job.num_logprobs,
        )

    def _room(self, length: int) -> int | None:
        """Positions of the model's context behind a prompt."""
        limit, _ = position_limit(self.model)
        if limit is not None and limit - length < LEAST_ANSWER + LEAST_THOUGHT:
            raise ValueError(f"The messages have {length} tokens, and the model's context has {limit} positions.")
        return None if limit is None else limit - length

    def _budget(self, job: Job, prompt: str, room: int | None) -> BudgetRow:
        budget, opened = job.budget if room is None else job.budget.within(room), opened_by_prompt(prompt)
        closed = CLOSE_TAG in opened
        if job.prompt.thinking and closed:
            raise ValueError("The model's chat template closes the thought, so this model cannot think: turn it off.")
        frame = Frame.of(self.tokenizer, "<think>\n" if closed else opened, self.config.eos_token_id or ())
        if job.prompt.thinking and budget.thought < frame.least_thought:
            raise ValueError(
                f"The budget of the thought is {budget.thought} tokens; this model needs at least "
                f"{frame.least_thought}, for the tags and a token between them. 0 answers without a thought."
            )
        thought = budget.thought if job.prompt.thinking else 0
        total = sys.maxsize if budget.total is None else budget.total
        return BudgetRow(frame, thought, budget.answer, total, thinks=job.prompt.thinking)

    def _sampling(self, job: Job) -> Sampling:
        """Where a request is silent, the model's own generation config says, as `transformers serve` and vLLM do."""
        own = getattr(self.model, "generation_config", None)
        greedy = not (getattr(own, "do_sample", False) or job.sample)
        temperature = job.temperature
        if temperature is None:
            temperature = 0.0 if greedy and job.top_p is None else float(self.sampled.temperature or 1.0)
        top_p = job.top_p if job.top_p is not None else float(self.sampled.top_p or 1.0)
        top_k = job.top_k if job.top_k is not None else int(self.sampled.top_k or 0)
        seed = 0 if temperature == 0 else job.seed if job.seed is not None else secrets.randbits(63)
        return Sampling(temperature, top_p, top_k, seed, job.frequency_penalty, job.presence_penalty)

    def run(
        self, adapter: str | None, chains: Sequence[LiveChain], pause: Callable[[int], bool], kept: Kept | None = None
    ) -> Kept | None:
        """Generate chains of one adapter (`None`: of the model itself) until a pause; see `run_batch`."""
        off = nullcontext()
        if adapter is not None:
            self.model.set_adapter(adapter)
        elif self.adapters:
            off = self.model.disable_adapter()
        with off:
            return run_batch(self.model, self.tokenizer, self.config, chains, pause, kept)
