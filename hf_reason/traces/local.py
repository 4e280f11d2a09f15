"""A teacher in this process: a model that writes chains in batches whose rows come and go."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hf_reason.generation.batching import check_counts, decode_ids
from hf_reason.generation.budgets import BudgetRow, Frame
from hf_reason.generation.limits import check_prompts
from hf_reason.generation.live import LiveChain, Sampling, run_batch
from hf_reason.generation.settings import generation_config, stop_ids
from hf_reason.generation.shrinking import LEAST_ROWS, PART, can_shrink
from hf_reason.text.render import build_prompt, opened_by_prompt
from hf_reason.text.spans import prompt_token_ids

from .settings import Job, TraceSettings, sample_row


class LocalWriter:
    """Writes samples. Each draws by random numbers of its own, whatever else is in the batch.

    Nothing is forced: a thought that the model does not close within `max_completion_length` stays open. A model that
    knows no tags writes prose.

    Args:
        model: A causal language model on its device.
        tokenizer: The model's.
        settings: How it samples.
        instructions: Template of each domain.
        batch_size: Chains written at once. When a quarter of them have ended, others join; half of them for a model
            whose rows have to be read again then (`hf_reason.generation.live`).

    Raises:
        ValueError: without a temperature, or for a batch size below 1.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        settings: TraceSettings,
        *,
        instructions: Mapping[str, str] | None = None,
        batch_size: int = 16,
    ) -> None:
        check_counts(batch_size=batch_size)
        if settings.temperature is None:
            raise ValueError("a local teacher needs a temperature; 0 is greedy.")
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.instructions, self.batch_size = instructions, batch_size
        self.failures: dict[str, int] = {}

    def write(self, jobs: Sequence[Job]) -> Iterator[list[dict[str, Any]]]:
        """The samples, as they end: rows of the journal.

        Raises:
            ValueError: for a prompt that the model cannot read or continue.
        """
        length = self.settings.max_completion_length
        prompts: dict[str, tuple[str, list[int]]] = {}
        for job in jobs:
            if job.record["id"] not in prompts:
                text = build_prompt(job.record, self.tokenizer, instructions=self.instructions)
                prompts[job.record["id"]] = text, prompt_token_ids(text, self.tokenizer)
        check_prompts(self.model, [ids for _, ids in prompts.values()], length)
        config = generation_config(self.model, self.tokenizer, max_new_tokens=length)
        frame = Frame.of(self.tokenizer, "\n", stop_ids(self.model, self.tokenizer))
        keeps = can_shrink(self.model, config)
        waiting, running, kept = deque(jobs), list[tuple[Job, LiveChain]](), None
        while waiting or running:
            while waiting and len(running) < self.batch_size:
                job = waiting.popleft()
                running.append((job, self._chain(job, prompts[job.record["id"]][1], frame)))
            chains = [chain for _, chain in running]

            def pause(_: int, chains: list[LiveChain] = chains) -> bool:
                enough = max(LEAST_ROWS, len(chains) // PART) if keeps else len(chains) / 2
                return (keeps or bool(waiting)) and sum(chain.over for chain in chains) >= enough

            kept = run_batch(self.model, self.tokenizer, config, chains, pause, kept)
            yield [self._row(job, chain, prompts[job.record["id"]][0]) for job, chain in running if chain.over]
            running = [(job, chain) for job, chain in running if not chain.over]

    def _chain(self, job: Job, prompt: list[int], frame: Frame) -> LiveChain:
        asked = self.settings
        budget = BudgetRow(frame, 0, asked.max_completion_length, asked.max_completion_length, thinks=False)
        sampling = Sampling(temperature=asked.temperature or 0.0, top_p=asked.top_p, seed=job.seed)
        return LiveChain(prompt, budget, sampling, _nothing, domain=job.record.get("domain"))

    def _row(self, job: Job, chain: LiveChain, prompt: str) -> dict[str, Any]:
        text = opened_by_prompt(prompt) + decode_ids(self.tokenizer, chain.ids)
        counts = {"prompt_tokens": len(chain.prompt_ids), "completion_tokens": len(chain.ids)}
        return sample_row(job, text, thought=None, ended=chain.budget.ended, forced=False, **counts)


def _nothing(chain: LiveChain, token: int, thought: bool) -> None:
    """Nobody watches the chain grow."""
