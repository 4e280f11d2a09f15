"""Which models transformers' continuous batching serves as `generate` does."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

import torch

from hf_reason.generation.live import LiveChain
from hf_reason.models.lm_head import causal_model

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


def probe(
    served: ServedModel,
    submit: Callable[[str | None, LiveChain, Callable[[BaseException], None]], None],
    leave: Callable[[LiveChain], None],
    max_prompt_tokens: int,
) -> None:
    """Generate a few tokens with both engines.

    Architectures whose attention is not transformers' own run, and give nonsense.

    Args:
        served: The model.
        submit, leave: Of its worker for continuous batching.
        max_prompt_tokens: Longest prompt.

    Raises:
        ValueError: if the probabilities differ, or continuous batching fails.
    """
    prompt = Prompt(({"role": "user", "content": "12+25=? 48/6=?"},), thinking=False)
    job = Job("", prompt, Budget(0, _PROBE_TOKENS), temperature=0.0, num_logprobs=0)
    plain = served.prepare(job, max_prompt_tokens)
    served.run(None, [plain], lambda tokens: False)
    problem = ""
    try:
        paged = asyncio.run(_alone(submit, leave, served.prepare(job, max_prompt_tokens)))
    except Exception as error:
        _log.debug("probe of continuous batching", exc_info=error)
        problem = f"fails on it ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    else:
        close = _CLOSE.get(served.model.dtype, 0.3)
        for one, other, (expected, _), (got, _) in zip(
            plain.ids, paged.ids, plain.logprobs, paged.logprobs, strict=False
        ):
            if not abs(expected - got) <= close:
                problem = f"gives other results than generate (log-probabilities {expected:.3f} and {got:.3f})"
            if one != other or problem:
                break
    if problem:
        kind = type(causal_model(served.model)).__name__
        raise ValueError(
            f"{served.card.name} is a {kind}, and transformers' continuous batching {problem}. "
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
