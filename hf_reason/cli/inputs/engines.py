"""The engine of `serve`, by its name. Only the engines that load models import torch."""

import os
import sys
from typing import TYPE_CHECKING, Any

from hf_reason.cli.generation_arguments import InferenceArguments

if TYPE_CHECKING:
    from hf_reason.serving.metrics import Metrics

ENGINES = ("generate", "continuous", "openai")
_BATCH = {"openai": 256}  # chains at once; the others are generated here


def batch_size(args: Any) -> int:
    """Chains that an engine generates at once.

    Args:
        args: `ServeArguments`.
    """
    return args.max_batch_size or _BATCH.get(args.engine, 16)


def make_engine(args: Any, metrics: "Metrics") -> Any:
    """An engine that can answer.

    Args:
        args: `ServeArguments`.
        metrics: Hear of each batch.

    Raises:
        ValueError: for a model or a server that it cannot serve.
    """
    size = batch_size(args)
    if args.engine == "openai":
        return _gateway(args, size)
    from transformers.utils.logging import disable_progress_bar

    from .serving import load_served

    disable_progress_bar()
    loading = InferenceArguments(dtype=args.dtype, trust_remote_code=args.trust_remote_code, use_cpu=args.use_cpu)
    served, warnings = load_served(args.model_name_or_path, args.adapters, loading)
    for warning in warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    options: dict[str, Any] = {
        "max_batch_size": size,
        "max_prompt_tokens": args.max_prompt_tokens,
        "on_batch": metrics.batch_size.observe,
    }
    if args.engine == "continuous":
        from hf_reason.serving.engines.continuous import ContinuousEngine

        return ContinuousEngine(served, max_new_tokens=args.max_thought_tokens + args.max_answer_tokens, **options)
    from hf_reason.serving.engines.generate import GenerateEngine

    return GenerateEngine(served, admission_interval=args.admission_interval, **options)


def _gateway(args: Any, size: int) -> Any:
    try:
        import aiohttp  # noqa: F401
    except ImportError as error:
        raise ValueError("engine openai needs the package aiohttp: pip install 'hf_reason[serve]'.") from error
    from hf_reason.serving.engines.openai import OpenAIEngine
    from hf_reason.serving.engines.template import load_template
    from hf_reason.serving.engines.upstream import API_KEY_VARIABLE, Upstream

    key = os.environ.get(API_KEY_VARIABLE, "").strip()
    names = dict(_model(given) for given in args.model_name_or_path)
    return OpenAIEngine.connect(
        [Upstream(url, api_key=key, timeout=args.engine_timeout) for url in args.engine_url],
        names=names,
        template=load_template(args.engine_tokenizer) if args.engine_tokenizer else None,
        max_batch_size=size,
        revision=args.engine_revision or "",
    )


def _model(given: str) -> tuple[str, str]:
    """`name=its name on the server`, or that name alone."""
    name, equals, its = given.partition("=")
    return (name.strip(), its.strip()) if equals else (given, given)
