"""A batch whose rows come and go: chains that are generated together for a while, and continued in another batch.

`generate` works on a batch that does not change. So a batch is stopped at an admission point. The unfinished rows of a
decoder-only model go on from their keys and values, and those that join are read beside them (`kept`). The rows of any
other model are read again, with what they have written. That needs nothing of a model but `generate`, whatever its
cache is like: LoAR (which keeps the choice that it made for the prompt, because it still reads no more than the
prompt), StepReasoner (which finds the steps again from the ids).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria
from transformers.generation import StoppingCriteriaList

from hf_reason.models.lm_head import causal_model, without_router_logits

from .batching import evaluation_mode, model_device, pad_left
from .budgets import BudgetRow, ThoughtBudget
from .kept import Kept, kept_of
from .settings import changed, only_asked_for
from .shrinking import can_shrink


@dataclass(frozen=True)
class Sampling:
    """How one chain is drawn. The same seed draws the same, whatever else is in the batch.

    Attributes:
        temperature: 0 is greedy.
        top_p: Only the likeliest tokens that together have this probability.
        top_k: Only so many of the likeliest tokens; 0 for all.
        seed: Of the draws.
        frequency_penalty, presence_penalty: Subtracted from the logit of a token for each time, and once if at all,
            that the chain has it already (OpenAI's formula).
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0


@dataclass(eq=False)
class LiveChain:
    """A chain that is being generated.

    Attributes:
        prompt_ids: Its prompt.
        budget: Where it stands, and how far it may go.
        sampling: How it is drawn.
        on_token: Called with the chain, a new token and whether that token belongs to the thought. It may set
            `budget.done`.
        domain: Task for a model that routes its attention by task (LoAR).
        num_logprobs: Record log-probabilities of this many of the likeliest tokens, besides that of the chosen one;
            `None` records none.
        ids: What it has written.
        logprobs: With `num_logprobs`, an entry for each of `ids`: log-probability of the token, and `(id,
            log-probability)` of the likeliest ones. They are the model's own, before temperature and budget.
        unsaid: The last of `ids` that `on_token` has not been called with: an opening that was read with the prompt.
        blank: Whether its answer has no text yet; then its end is ruled out. Set by `on_token`.
        cancelled: Set by whoever does not want it any more, from any thread; the row ends at the next token.
    """

    prompt_ids: list[int]
    budget: BudgetRow
    sampling: Sampling
    on_token: "Callable[[LiveChain, int, bool], None]"
    domain: str | None = None
    num_logprobs: int | None = None
    ids: list[int] = field(default_factory=list)
    logprobs: list[tuple[float, list[tuple[int, float]]]] = field(default_factory=list)
    unsaid: list[int] = field(default_factory=list)
    blank: bool = False
    cancelled: bool = False
    counts: Counter[int] = field(default_factory=Counter)
    generator: torch.Generator | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more is to be generated."""
        return self.budget.done or self.cancelled

    def open_with_prompt(self, model: Any) -> None:
        """Let the tokens that open the thought be read with the prompt, which saves a forward for each of them.

        A chain that records log-probabilities needs the scores of each token; one whose tags the model has no
        embeddings for gets its error from the budget.
        """
        if self.ids or self.num_logprobs is not None or not self.budget.opening:
            return
        if max(self.budget.pending) >= causal_model(model).get_input_embeddings().num_embeddings:
            return
        self.unsaid = self.budget.take_opening()
        self.ids += self.unsaid
        self.counts.update(self.unsaid)


class LiveBatch:
    """Chooses the next token of each row, and says when the batch pauses.

    Args:
        tokenizer: The model's.
        chains: The rows.
        pause: See `run_batch`.
    """

    def __init__(self, tokenizer: Any, chains: Sequence[LiveChain], pause: Callable[[int], bool]) -> None:
        self.chains, self.pause, self.tokens = list(chains), pause, 0
        self.budget = ThoughtBudget(tokenizer, [chain.budget for chain in chains])

    def choose(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores [rows, vocabulary] -> the same with all but the chosen token at -inf."""
        scores = torch.nan_to_num(scores.float(), nan=-1e9, posinf=1e9, neginf=-torch.inf)
        for chain, values in zip(self.chains, scores, strict=True):
            _penalise(chain, values)
        allowed = self.budget.force(scores.clone())
        for number, chain in enumerate(self.chains):
            if chain.blank and not chain.budget.thinks:
                allowed[number, list(chain.budget.frame.stops)] = -torch.inf
        tokens = allowed.argmax(dim=-1)
        for number, chain in enumerate(self.chains):
            # a forced token is not drawn, so that a seed draws the same whether the opening is read or written
            if not chain.over and chain.sampling.temperature > 0 and not chain.budget.pending:
                tokens[number] = _draw(chain, allowed[number])
            if not chain.over and chain.num_logprobs is not None:
                chain.logprobs.append(_logprobs(scores[number], int(tokens[number]), chain.num_logprobs))
        return torch.full_like(scores, -torch.inf).scatter(1, tokens[:, None], 0.0)

    def advance(self, tokens: Sequence[int]) -> list[bool]:
        """Note each row's new token; returns which rows are done, all of them at a pause."""
        self.tokens += 1
        for chain in self.chains:  # while its thought is still open, whatever the new token does
            opening, chain.unsaid = chain.unsaid, []
            for token in opening:
                if not chain.cancelled:
                    chain.on_token(chain, token, True)
        before = [(chain.budget.done, chain.budget.thinks, chain.budget.ended) for chain in self.chains]
        self.budget.advance(tokens)
        for chain, token, (done, thought, _) in zip(self.chains, tokens, before, strict=True):
            if done or chain.cancelled:
                continue
            if not chain.budget.ended:
                chain.ids.append(token)
                chain.counts[token] += 1
            elif chain.num_logprobs is not None:
                chain.logprobs.pop()  # of the stop token
            chain.on_token(chain, token, thought)
        if self.pause(self.tokens):
            return [True] * len(self.chains)
        return [chain.over for chain in self.chains]


class _Choose(LogitsProcessor):
    def __init__(self, batch: LiveBatch) -> None:
        self.batch = batch

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        return self.batch.choose(scores)  # type: ignore[return-value]


class _Advance(StoppingCriteria):
    def __init__(self, batch: LiveBatch) -> None:
        self.batch = batch

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.BoolTensor:
        done = self.batch.advance(input_ids[:, -1].tolist())
        return torch.tensor(done, device=input_ids.device)  # type: ignore[return-value]


def _penalise(chain: LiveChain, scores: torch.Tensor) -> None:
    asked = chain.sampling
    if not chain.counts or not (asked.frequency_penalty or asked.presence_penalty):
        return
    tokens = torch.tensor(list(chain.counts), device=scores.device)
    counts = torch.tensor(list(chain.counts.values()), device=scores.device, dtype=scores.dtype)
    scores[tokens] -= counts * asked.frequency_penalty + asked.presence_penalty


def _draw(chain: LiveChain, scores: torch.Tensor) -> int:
    """A token from scores [vocabulary], by the chain's own random numbers."""
    asked = chain.sampling
    if chain.generator is None:
        chain.generator = torch.Generator().manual_seed(asked.seed)
    # on the CPU, so that a seed draws the same on every device
    scores = scores.cpu()
    # a temperature of 1e-300 would make infinities, which fail the whole batch
    probabilities = torch.softmax((scores - scores.max()) / max(asked.temperature, 1e-6), dim=-1)
    if asked.top_k or asked.top_p < 1:
        ordered, order = probabilities.sort(descending=True, stable=True)
        out = ordered.cumsum(dim=-1) - ordered >= asked.top_p
        if asked.top_k:
            out[asked.top_k :] = True
        out[0] = False
        probabilities = probabilities.scatter(0, order, ordered.masked_fill(out, 0.0))
    return int(torch.multinomial(probabilities, 1, generator=chain.generator))


def _logprobs(scores: torch.Tensor, token: int, count: int) -> tuple[float, list[tuple[int, float]]]:
    values = torch.log_softmax(scores, dim=-1)
    top = values.topk(min(count, len(values))) if count else None
    likeliest = [] if top is None else list(zip(top.indices.tolist(), top.values.tolist(), strict=True))
    return float(values[token]), likeliest


def run_batch(
    model: Any,
    tokenizer: Any,
    config: GenerationConfig,
    chains: Sequence[LiveChain],
    pause: Callable[[int], bool],
    kept: Kept | None = None,
) -> Kept | None:
    """Generate these chains together until all are over, or until a pause.

    Args:
        model: Anything with transformers' `generate`, on its device.
        tokenizer: The model's.
        config: Greedy, from `generation_config`; its lengths are replaced.
        chains: None of them over; changed in place.
        pause: Called after each token with the number of tokens since the start; `True` stops the batch, and the
            chains that are not over can be given to the next one.
        kept: What an earlier call returned; it cannot be used again. The chains that are in it are not read again.

    Returns:
        What the next call needs; `None` if nothing of the model's cache can be kept.
    """
    old = kept.only(chains) if kept is not None else None
    known = {id(chain) for chain in old.chains} if old is not None else set()
    new = [chain for chain in chains if id(chain) not in known]
    for chain in new:
        chain.open_with_prompt(model)
    with ExitStack() as inside:
        for context in (evaluation_mode(model), only_asked_for(model), without_router_logits(model)):
            inside.enter_context(context)
        if old is None:
            return _generate(model, LiveBatch(tokenizer, new, pause), config)
        if new:  # their prompts are read, and they have a first token
            read = _generate(model, LiveBatch(tokenizer, new, lambda tokens: True), config)
            read = read and read.only([chain for chain in new if not chain.over])
            old = old.with_rows(read) if read is not None else old
        return _generate(model, LiveBatch(tokenizer, old.chains, pause), config, old)


def _generate(model: Any, batch: LiveBatch, config: GenerationConfig, kept: Kept | None = None) -> Kept | None:
    """One call of `generate`, for new chains or for those that are kept."""
    chains = batch.chains
    settings = changed(config, max_new_tokens=max(tokens_left(chain) for chain in chains))
    more: dict[str, Any] = {}
    if kept is not None:
        ids, mask, more["past_key_values"] = kept.ids, kept.mask, kept.past
    else:
        rows = pad_left([chain.prompt_ids + chain.ids for chain in chains], int(config.pad_token_id))
        ids, mask = (values.to(model_device(model)) for values in rows)
    shrinks, loar = can_shrink(model, config), getattr(causal_model(model), "loar", None)
    if shrinks:
        settings = changed(settings, return_dict_in_generate=True)
    with ExitStack() as inside:
        if loar is not None:
            inside.enter_context(loar.task([chain.domain for chain in chains]))
            inside.enter_context(loar.prompts_end_at([ids.shape[1] - len(chain.ids) for chain in chains]))
        found = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=settings,
            logits_processor=LogitsProcessorList([_Choose(batch)]),
            stopping_criteria=StoppingCriteriaList([_Advance(batch)]),
            **more,
        )
    return kept_of(chains, found.sequences, mask, found.past_key_values) if shrinks else None


def tokens_left(chain: LiveChain) -> int:
    """Most tokens that a chain may still write."""
    budget = chain.budget
    thought = budget.max_thought_tokens - budget.thought if budget.thinks else 0
    left = thought + budget.max_answer_tokens - budget.answer
    return max(1, min(left, budget.max_tokens - budget.thought - budget.answer))
