"""The default engine: dynamic batches of transformers' `generate`, in a thread a model; for every architecture."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from hf_reason.generation.live import LiveChain

from .base import Accepted, EngineError, Job, Load, ModelCard, Piece
from .postbox import Postbox
from .served_model import ServedModel
from .worker import Worker
from .writer import Writer


class GenerateEngine:
    """`Engine` over models of this process.

    Args:
        served: The models, the default first; names must be unique.
        max_batch_size: Chains of a model that are generated at once.
        admission_interval: See `Worker`.
        max_prompt_tokens: Longest prompt.
        on_batch: Called with the number of chains of each batch, on the thread of its model.
        make_worker: Makes what runs the chains of a model; default: a `Worker` with the settings above.

    Raises:
        ValueError: for two models of one name.
    """

    def __init__(
        self,
        served: Sequence[ServedModel],
        *,
        max_batch_size: int = 16,
        admission_interval: int = 16,
        max_prompt_tokens: int = 8192,
        on_batch: Callable[[int], None] = lambda size: None,
        make_worker: Callable[[ServedModel], Any] | None = None,
    ) -> None:
        names = [card.name for model in served for card in model.cards()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"Several models are called {', '.join(twice)}. Give them names: name=folder.")
        self._places: dict[str, tuple[Any, str | None, ModelCard]] = {}
        self._workers: list[Any] = []
        self._postbox: Postbox | None = None
        make_worker = make_worker or (lambda model: Worker(model, max_batch_size, admission_interval, on_batch))
        self.max_prompt_tokens = max_prompt_tokens
        for model in served:
            worker = make_worker(model)
            self._workers.append(worker)
            self._places[model.card.name] = (worker, None, model.card)
            for adapter, card in model.adapters.items():
                self._places[card.name] = (worker, adapter, card)

    def models(self) -> list[ModelCard]:
        return [card for _, _, card in self._places.values()]

    def check(self, job: Job) -> Accepted:
        worker, adapter, card = self._places[job.model]
        chain = worker.served.prepare(job, self.max_prompt_tokens)
        row, sampling = chain.budget, chain.sampling
        settings = {
            "budget": [row.max_thought_tokens, row.max_answer_tokens, row.max_tokens],
            "sampling": dataclasses.asdict(sampling),
            "stop": list(job.stop),
            "num_logprobs": job.num_logprobs,
        }
        deterministic = sampling.temperature == 0 or job.seed is not None
        return Accepted(job, card, tuple(chain.prompt_ids), settings, deterministic, (worker, adapter, chain))

    async def stream(self, accepted: Accepted) -> AsyncGenerator[Piece]:
        worker, adapter, prepared = accepted.inside
        postbox, pieces = self._postbox_here(), asyncio.Queue[Piece | BaseException]()

        def put(item: Piece | BaseException) -> None:
            try:
                postbox.post(pieces, item)
            except RuntimeError:  # the loop has been closed under a thread that is still at work
                chain.cancelled = True

        writer = Writer(worker.served.tokenizer, accepted.job.stop, prepared.budget.thinks)

        def on_token(chain: LiveChain, token: int, thought: bool) -> None:
            piece = writer.push(chain, token, thought)
            if piece is not None:
                put(piece)

        chain = dataclasses.replace(prepared, on_token=on_token, blank=True)
        try:
            worker.submit(adapter, chain, put)
        except RuntimeError as error:
            raise EngineError(str(error)) from error
        try:
            while True:
                item = await pieces.get()
                if isinstance(item, BaseException):
                    raise EngineError(f"Generation failed: {type(item).__name__}.") from item
                yield item
                if item.end is not None:
                    return
        finally:
            worker.leave(chain)

    def _postbox_here(self) -> Postbox:
        loop = asyncio.get_running_loop()
        if self._postbox is None or self._postbox.loop is not loop:
            self._postbox = Postbox(loop)
        return self._postbox

    def problem(self) -> str | None:
        ended = [worker.served.card.name for worker in self._workers if not worker.alive()]
        return f"The engine of {', '.join(ended)} has ended." if ended else None

    def load(self) -> Load:
        counts = [worker.counts() for worker in self._workers]
        return Load(sum(running for running, _ in counts), sum(waiting for _, waiting in counts))

    async def close(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(worker.close) for worker in self._workers))
