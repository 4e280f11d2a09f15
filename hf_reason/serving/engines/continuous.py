"""The engine `continuous`: transformers' continuous batching, with the budgets and the sampling of `generate`.

A chain joins and leaves at any token, and its keys and values stay in pages of one cache, so nothing is read twice.
The manager lets a logits processor see which request each row belongs to. There the next token is chosen by the same
code as in `generate` (`LiveBatch`): thoughts are closed and seeds drawn alike, in one request.
"""

import itertools
import logging
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from transformers import ContinuousBatchingConfig, LogitsProcessorList
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.continuous_batching.continuous_api import OutputRouter
from transformers.generation.continuous_batching.requests import GenerationOutput

from hf_reason.generation.live import LiveBatch, LiveChain, tokens_left
from hf_reason.models.context import position_limit
from hf_reason.models.lm_head import causal_model, without_router_logits

from .continuous_checks import Probe, check_architecture
from .generate import GenerateEngine
from .served_model import ServedModel

_log = logging.getLogger(__name__)
_PAGE = 32  # tokens of a page of the cache
_PREFILL = 512  # most tokens of one forward
_USUAL = 2048  # tokens a chain for which the cache has room when all places are taken; longer ones take turns


class ContinuousEngine(GenerateEngine):
    """`Engine` over models of this process that transformers' continuous batching takes.

    Args:
        served: The models, the default first; without adapters.
        max_batch_size: Chains of a model that are generated at once.
        max_prompt_tokens: Longest prompt.
        max_new_tokens: Longest thought and answer together.
        on_batch: Called with the number of chains of each forward, on the thread of its model.

    Raises:
        ValueError: for a model that continuous batching cannot serve as `generate` does; it says why.
    """

    def __init__(
        self,
        served: Sequence[ServedModel],
        *,
        max_batch_size: int = 16,
        max_prompt_tokens: int = 8192,
        max_new_tokens: int = 1536,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        for model in served:
            check_architecture(model)
        workers: list[ContinuousWorker] = []
        try:
            for model in served:
                probe, longest = Probe(model, max_prompt_tokens), max_prompt_tokens + max_new_tokens
                worker = ContinuousWorker(model, max_batch_size, longest)
                workers.append(worker)
                probe.check(worker.submit, worker.leave)
                worker.on_batch = on_batch
            made = iter(workers)
            super().__init__(served, max_prompt_tokens=max_prompt_tokens, make_worker=lambda model: next(made))
        except BaseException:
            for worker in workers:
                worker.close()
            raise


class _Choose(ContinuousBatchingLogitsProcessor):
    """Chooses the next token of each row as `generate` does: all but that one are at -inf afterwards."""

    supported_kwargs: dict[str, type] = {}
    ignored_kwargs: tuple[str, ...] = ()

    def __init__(self, choose: Callable[[list[str], torch.Tensor], torch.Tensor]) -> None:
        self.choose, self.rows = choose, list[str]()

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> torch.Tensor:
        self.rows = [request.state.request_id for request in requests_with_new_token]
        return torch.zeros(len(self.rows), dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        count = len(self.rows)  # rows behind them belong to prompts that are read in parts
        return torch.cat([self.choose(self.rows, scores[:count]), scores[count:]]) if count else scores


class _Failures(OutputRouter):
    """Hands on what failed; what was written has come by `_Choose` already."""

    def __init__(self, fail: Callable[[str, str], None]) -> None:
        super().__init__()
        self.fail = fail

    def deliver(self, output: GenerationOutput) -> None:
        if output.error:
            self.fail(output.request_id, output.error)

    def deliver_batch(self, outputs: list[GenerationOutput]) -> None:
        for output in outputs:
            self.deliver(output)


class ContinuousWorker:
    """The manager of a model; a `Worker` for `GenerateEngine`.

    Args:
        served: The model.
        max_batch_size: Chains generated at once.
        longest: Most tokens of a chain, its prompt included.

    Attributes:
        on_batch: Called with the number of rows of each forward.
    """

    def __init__(self, served: ServedModel, max_batch_size: int, longest: int) -> None:
        self.served, self.max_batch_size = served, max_batch_size
        self.on_batch: Callable[[int], None] = lambda size: None
        limit, _ = position_limit(served.model)
        self._longest = longest if limit is None else min(longest, limit)
        self._chains: dict[str, tuple[LiveChain, Callable[[BaseException], None]]] = {}
        self._names: dict[int, str] = {}
        self._numbers, self._lock, self._closed = itertools.count(), threading.Lock(), False
        self._batch: LiveBatch | None = None
        self._inside = ExitStack()
        self._inside.enter_context(without_router_logits(served.model))
        self._manager = self._start()

    def _start(self) -> Any:
        tokens = max(self._longest, self.max_batch_size * min(self._longest, _USUAL))
        config = ContinuousBatchingConfig(
            page_size=_PAGE,
            num_blocks=math.ceil(tokens / _PAGE) + self.max_batch_size,
            max_batch_tokens=max(_PREFILL, self.max_batch_size),
            max_requests_per_batch=self.max_batch_size,
            use_async_batching=False,  # the next token is chosen by Python, from the whole row
            use_cuda_graph=False,
        )
        model = causal_model(self.served.model)
        manager = model.init_continuous_batching(self.served.config, config)
        processors = ContinuousBatchingLogitsProcessorList(LogitsProcessorList([_Choose(self._choose)]))
        processors.tensors_required = 1
        manager.logit_processor = processors
        manager.output_router = _Failures(self._fail)
        manager.start()
        return manager

    def submit(self, adapter: str | None, chain: LiveChain, fail: Callable[[BaseException], None]) -> None:
        """Queue a chain; its `on_token` and `fail` are called on the manager's thread.

        Raises:
            RuntimeError: if the worker is closed.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("The engine is closed.")
            if not self._manager.is_running():  # a forward failed, which ends the manager
                _log.error("continuous batching of %s ended; it starts again", self.served.card.name)
                self._manager.stop()
                self._manager = self._start()
            name = f"chain-{next(self._numbers)}"
            self._chains[name], self._names[id(chain)] = (chain, fail), name
        chain.open_with_prompt(self.served.model)
        stops = list(chain.budget.frame.stops) or None
        left, ids = tokens_left(chain) + 1, chain.prompt_ids + chain.ids
        if self._manager.add_request(ids, name, max_new_tokens=left, eos_token_id=stops) is None:
            self.leave(chain)
            raise RuntimeError("The engine is ending.")

    def _fail(self, name: str, error: str) -> None:
        with self._lock:
            chain, fail = self._chains.get(name, (None, None))
        if chain is not None and fail is not None and not chain.over:
            chain.cancelled = True
            fail(RuntimeError(error))

    def leave(self, chain: LiveChain) -> None:
        """Forget a chain, whether it is over or not."""
        chain.cancelled = True
        with self._lock:
            name = self._names.pop(id(chain), None)
            if name is None:
                return
            del self._chains[name]
        self._manager.cancel_request(name)

    def counts(self) -> tuple[int, int]:
        """Chains that are running, and that are waiting."""
        with self._lock:
            active = sum(not chain.over for chain, _ in self._chains.values())
        running = min(active, self.max_batch_size)
        return running, active - running

    def alive(self) -> bool:
        """Whether chains can be submitted."""
        return not self._closed

    def close(self, timeout: float = 10.0) -> None:
        """Fail what runs and waits, and end the thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._manager.stop(hard_stop=True, timeout=timeout)
        self._manager.destroy()
        self._inside.close()

    def _choose(self, rows: list[str], scores: torch.Tensor) -> torch.Tensor:
        """Scores [rows, vocabulary] -> the same with all but the chosen token at -inf. Called by the manager."""
        with self._lock:
            found = [self._chains.get(name, (None, None))[0] for name in rows]
        places = [number for number, chain in enumerate(found) if chain is not None and not chain.over]
        chains = [chain for chain in found if chain is not None and not chain.over]
        for name, chain in zip(rows, found, strict=True):
            if chain is None or chain.over:
                self._manager.cancel_request(name)
        if not chains:
            return scores
        if self._batch is None or self._batch.chains != chains:
            self._batch = LiveBatch(self.served.tokenizer, chains, lambda tokens: False)
        self.on_batch(len(chains))
        chosen = self._batch.choose(scores[places])
        self._batch.advance(chosen.argmax(dim=-1).tolist())
        for place, chain in zip(places, chains, strict=True):
            if chain.over:
                self._manager.cancel_request(rows[place])
        return scores.index_copy(0, torch.tensor(places, device=scores.device), chosen.to(scores.dtype))
