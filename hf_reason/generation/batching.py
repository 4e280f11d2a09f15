"""Batched generation from token ids: left-padded here, sorted by length, sharded over the processes of a launch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Protocol

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from hf_reason.models.lm_head import causal_model
from hf_reason.text.tokens import end_token_id

from .distributed import gather, process_index_and_count

# Sampling settings that do nothing; they silence the ones a model brings along when it decodes greedily.
_GREEDY = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}


def check_counts(**counts: int) -> None:
    """Refuse numbers of tokens, samples or sequences below 1, by their names.

    Raises:
        ValueError: for the first of them.
    """
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")


def stop_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every id that ends an output: the model's own, the tokenizer's EOS and the end of the assistant's turn."""
    config = getattr(model, "generation_config", None)
    own = getattr(config, "eos_token_id", None)
    ids = list(own) if isinstance(own, list | tuple) else [own]
    ids.append(tokenizer.eos_token_id)
    with suppress(ValueError):  # no EOS at all: outputs end at max_new_tokens
        ids.append(end_token_id(tokenizer))
    return list(dict.fromkeys(int(token) for token in ids if token is not None))


def _pad_id(model: Any, tokenizer: PreTrainedTokenizerBase, stops: Sequence[int]) -> int:
    """Any id will do, for padding is masked; without a pad token a stop id (or 0) stands in."""
    own = getattr(getattr(model, "generation_config", None), "pad_token_id", None)
    return int(next(token for token in (tokenizer.pad_token_id, own, *stops, 0) if token is not None))


def generation_config(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_new_tokens: int,
    num_samples: int = 1,
    temperature: float | None = None,
    generation_kwargs: Mapping[str, Any] | None = None,
) -> GenerationConfig:
    """The settings of a run. What is not set here stays as the model's own generation config says.

    Greedy, unless several samples or a temperature are asked for (then the model's own `top_p` and the like hold).
    `generation_kwargs` come last and may override everything.

    Raises:
        ValueError: if a temperature of 0 is combined with several samples, or a setting is unknown.
    """
    if num_samples > 1 and temperature == 0:
        raise ValueError(f"temperature=0 makes all num_samples={num_samples} samples equal. Use num_samples=1.")
    stops = stop_ids(model, tokenizer)
    settings: dict[str, Any] = dict(_GREEDY)
    if num_samples > 1 or temperature:
        # A NaN in the probabilities is an error on the CPU and kills the process on a GPU.
        settings = {"do_sample": True, "temperature": temperature, "remove_invalid_values": True}
    settings |= {
        "max_new_tokens": max_new_tokens,
        "use_cache": True,
        "eos_token_id": stops or None,
        "pad_token_id": _pad_id(model, tokenizer, stops),
        **(generation_kwargs or {}),
    }
    config = GenerationConfig()
    own = getattr(model, "generation_config", None)
    unknown = [name for name in settings if not hasattr(config, name) and not hasattr(own, name)]
    if unknown:
        raise ValueError(f"generation_kwargs: GenerationConfig has no setting {', '.join(unknown)}.")
    if settings.get("num_return_sequences") not in (None, 1):
        raise ValueError("generation_kwargs: num_return_sequences is not accepted here. Use num_samples.")
    config.update(**settings)
    return config


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients; every module's own mode and `config.use_cache` come back afterwards."""
    modes = [(module, module.training) for module in model.modules()] if hasattr(model, "modules") else []
    config: Any = getattr(model, "config", None)
    use_cache = getattr(config, "use_cache", None)
    if hasattr(model, "eval"):
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        if use_cache is not None:
            config.use_cache = use_cache


def model_device(model: Any) -> torch.device:
    """Where the inputs go; the CPU for a model that does not say."""
    device = getattr(model, "device", None)
    return torch.device(device) if device is not None else torch.device("cpu")


def pad_left(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`input_ids` and `attention_mask`, both int64 [rows, longest row], padded in front."""
    width = max(map(len, rows))
    ids = [[pad_id] * (width - len(row)) + list(row) for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, dtype=torch.long), torch.tensor(mask, dtype=torch.long)


def trim_output(ids: Sequence[int], stops: Sequence[int], pad_id: int) -> list[int]:
    """The tokens that the model wrote: up to the first stop id (exclusive), without the padding after them."""
    stop = next((place for place, token in enumerate(ids) if token in stops), None)
    if stop is not None:
        return list(ids[:stop])
    end = len(ids)
    while end and ids[end - 1] == pad_id:
        end -= 1
    return list(ids[:end])


def decode_ids(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of output tokens. Special tokens stay: some vocabularies mark `<think>` as special."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


class Steering(Protocol):
    """What steers one batch while it is generated, and reads its outputs."""

    def generate_kwargs(self) -> dict[str, Any]:
        """More arguments of `generate`."""

    def result(self, row: int, ids: list[int]) -> Any:
        """What represents the output of a row; `ids` are its new tokens, with those after its end."""


def _batch_rng(device: torch.device, seed: int, batch: int) -> Any:
    """A generator state of the batch's own, so that it draws the same on whichever process it runs."""
    devices = [device] if device.type == "cuda" else []
    context = torch.random.fork_rng(devices=devices)

    @contextmanager
    def seeded() -> Iterator[None]:
        with context:
            torch.manual_seed(seed * 1_000_003 + batch)
            yield

    return seeded()


def _routed_for(model: Any, tasks: Sequence[str | None] | None) -> Any:
    """Inside it a LoAR routes for these tasks, one a row; without one nothing happens."""
    loar = getattr(causal_model(model), "loar", None)
    return nullcontext() if loar is None or tasks is None else loar.task(tasks)


def generate_ids(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    *,
    batch_size: int,
    num_samples: int = 1,
    seed: int = 0,
    progress: bool = False,
    steer: Callable[[list[int]], Steering] | None = None,
    tasks: Sequence[str | None] | None = None,
) -> list[list[Any]]:
    """Generate `num_samples` continuations of each prompt.

    The prompts are sorted by length, cut into batches of `batch_size` sequences and padded on the left. Under a
    distributed launch each process runs its part of the batches and all get all outputs; the batches and their
    seeds do not depend on the number of processes, so neither does the result.

    Args:
        model: Anything with transformers' `generate`. Wrappers without one (DDP) are removed.
        prompts: Token ids, one list a prompt; none may be empty.
        config: From `generation_config`; its `pad_token_id` and `eos_token_id` must be set.
        batch_size: Sequences a batch.
        num_samples: Continuations a prompt.
        seed: Of the sampling; the process's own random state is left as it was.
        progress: Show a bar (on the first process).
        steer: Called with the numbers of the prompts of a batch, for what steers it.
        tasks: Task (domain) of each prompt, for a model that routes its attention by task (LoAR).

    Returns:
        Token ids [prompt][sample][token], in the order of the prompts, without stop ids and padding; with `steer`,
        what its `result` gives in place of the ids.
    """
    from tqdm.auto import tqdm

    if not hasattr(model, "generate") and hasattr(model, "module"):
        model = model.module
    jobs = [(row, sample) for row in range(len(prompts)) for sample in range(num_samples)]
    # Longest first: if memory does not suffice, it shows at once.
    jobs.sort(key=lambda job: (-len(prompts[job[0]]), job))
    batches = [jobs[start : start + batch_size] for start in range(0, len(jobs), batch_size)]
    rank, world = process_index_and_count(model_device(model))
    # Under ZeRO-3 and FSDP every forward is collective: all processes must run as many batches.
    turns = -(-len(batches) // world)
    stops = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    device, outputs = model_device(model), {}
    with evaluation_mode(model):
        for turn in tqdm(range(turns), desc="generate", disable=not progress or rank > 0):
            number = min(turn * world + rank, len(batches) - 1)
            batch = batches[number]
            ids, mask = pad_left([prompts[row] for row, _ in batch], config.pad_token_id)
            steering = steer([row for row, _ in batch]) if steer else None
            seeded = _batch_rng(device, seed, number) if config.do_sample else nullcontext()
            with seeded, _routed_for(model, None if tasks is None else [tasks[row] for row, _ in batch]):
                written = model.generate(
                    input_ids=ids.to(device),
                    attention_mask=mask.to(device),
                    generation_config=config,
                    **(steering.generate_kwargs() if steering else {}),
                )
            written = getattr(written, "sequences", written)
            for place, (job, row) in enumerate(zip(batch, written[:, ids.shape[1] :].tolist(), strict=True)):
                outputs[job] = (
                    steering.result(place, row) if steering else trim_output(row, stops, config.pad_token_id)
                )
    everything = dict(gather(list(outputs.items())))
    return [[everything[row, sample] for sample in range(num_samples)] for row in range(len(prompts))]
