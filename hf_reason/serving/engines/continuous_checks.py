"""Which models transformers' continuous batching serves as `generate` does."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

import torch

from hf_reason.generation.live import LiveChain
from hf_reason.models.lm_head import causal_model

from .apart import run_apart
from .base import Budget, Job, Prompt
from .served_model import ServedModel

_log = logging.getLogger(__name__)
_PROBE_TOKENS = 12
_CLOSE = {torch.float32: 0.02}  # nats that the two engines may differ by; 0.3 in half precision


def check_architecture(served: ServedModel) -> None:
    """Refuse what continuous batching cannot do, before anything is built.

    Raises:
        ValueError: naming the engine that can.
    """
    model, name = served.model, served.card.name
    whole = causal_model(model)
    config = getattr(whole, "config", None)
    why = ""
    if getattr(config, "model_type", "") == "step_reasoner":
        why = "a StepReasoner, whose three stacks and cache of steps transformers' continuous batching does not know"
    elif getattr(whole, "loar", None) is not None:
        why = "a LoAR, whose routed cache transformers' continuous batching does not know"
    elif served.adapters:
        why = "served with adapters, which cannot share a batch of continuous batching"
    elif getattr(whole, "_is_stateful", False) or not hasattr(whole, "init_continuous_batching"):
        why = f"a {type(whole).__name__}, which keeps no keys and values that can be paged"
    if why:
        raise ValueError(f"{name} is {why}. Serve it with --engine generate.")


class Probe:
    """A few tokens from both engines.

    Architectures whose attention is not transformers' own run, and give nonsense.

    Args:
        served: The model, before continuous batching has changed its attention.
        max_prompt_tokens: Longest prompt.
    """

    def __init__(self, served: ServedModel, max_prompt_tokens: int) -> None:
        self.served, self.max_prompt_tokens = served, max_prompt_tokens
        self.plain = self._chain()
        served.run(None, [self.plain], lambda tokens: False)

    def _chain(self) -> LiveChain:
        prompt = Prompt(({"role": "user", "content": "12+25=? 48/6=?"},), thinking=False)
        job = Job("", prompt, Budget(0, _PROBE_TOKENS), temperature=0.0, num_logprobs=0)
        return self.served.prepare(job, self.max_prompt_tokens)

    def check(self, submit: Callable[..., None], leave: Callable[[LiveChain], None]) -> None:
        """Generate the same with continuous batching.

        Args:
            submit, leave: Of the model's worker.

        Raises:
            ValueError: if the probabilities differ, or continuous batching fails.
        """
        try:
            paged = run_apart(_alone(submit, leave, self._chain()))
        except Exception as error:
            _log.debug("probe of continuous batching", exc_info=error)
            raise self._refusal(
                f"fails on it ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
            ) from error
        close = _CLOSE.get(self.served.model.dtype, 0.3)
        rows = zip(self.plain.ids, paged.ids, self.plain.logprobs, paged.logprobs, strict=False)
        for one, other, (expected, _), (got, _) in rows:
            if not abs(expected - got) <= close:
                figures = f"log-probabilities {expected:.3f} and {got:.3f}"
                raise self._refusal(f"gives other results than generate ({figures})")
            if one != other:  # a tie
                break

    def _refusal(self, problem: str) -> ValueError:
        kind = type(causal_model(self.served.model)).__name__
        return ValueError(
            f"{self.served.card.name} is a {kind}, and transformers' continuous batching {problem}. "
            "Serve it with --engine generate."
        )


async def _alone(submit: Callable[..., None], leave: Callable[[LiveChain], None], prepared: LiveChain) -> LiveChain:
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    failures: list[BaseException] = []

    def on_token(chain: LiveChain, token: int, thought: bool) -> None:
        if chain.over:
            loop.call_soon_threadsafe(done.set)

    def fail(error: BaseException) -> None:
        failures.append(error)
        loop.call_soon_threadsafe(done.set)

    chain = replace(prepared, on_token=on_token)
    submit(None, chain, fail)
    try:
        await asyncio.wait_for(done.wait(), 120)
    finally:
        leave(chain)
    if failures:
        raise failures[0]
    return chain
