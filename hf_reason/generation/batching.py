"""Batched generation from token ids: left-padded here, sorted by length, sharded over the processes of a launch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from hf_reason.models.lm_head import causal_model, without_router_logits

from .distributed import gather, process_index_and_count
from .limits import check_prompts, warn_beyond_context
from .settings import only_asked_for
from .shrinking import can_shrink, generate_shrinking


def check_counts(**counts: int) -> None:
    """Refuse numbers of tokens, samples or sequences below 1, by their names.

    Raises:
        ValueError: for the first of them.
    """
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")


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

    def kept(self, rows: Sequence[int]) -> "Steering":
        """What steers these rows alone from here; their results are asked of the whole batch's."""

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
    more_inputs: Callable[[list[int], int], Mapping[str, Any]] | None = None,
) -> list[list[Any]]:
    """Generate `num_samples` continuations of each prompt.

    The prompts are sorted by length, cut into batches of `batch_size` sequences and padded on the left. Under a
    distributed launch each process runs its part of the batches and all get all outputs; the batches and their
    seeds do not depend on the number of processes, so neither does the result.

    Args:
        model: Anything with transformers' `generate`. Wrappers without one (DDP) are removed.
        prompts: Token ids, one list a prompt; none may be empty.
        config: From `generation_config`; its `pad_token_id` and `eos_token_id` must be set. The model's own generation
            config adds nothing to it.
        batch_size: Sequences a batch.
        num_samples: Continuations a prompt.
        seed: Of the sampling; the process's own random state is left as it was.
        progress: Show a bar (on the first process).
        steer: Called with the numbers of the prompts of a batch, for what steers it.
        tasks: Task (domain) of each prompt, for a model that routes its attention by task (LoAR).
        more_inputs: Called with the numbers of the prompts of a batch and its width, for what the model reads besides
            the tokens: tensors of images.

    Returns:
        Token ids [prompt][sample][token], in the order of the prompts, without stop ids and padding; with `steer`,
        what its `result` gives in place of the ids.

    Raises:
        ValueError: for a prompt that is empty, has an id that the model does not know, or leaves no room for
            `config.max_new_tokens` in a context that ends.
    """
    from tqdm.auto import tqdm

    if not hasattr(model, "generate") and hasattr(model, "module"):
        model = model.module
    check_prompts(model, prompts, config.max_new_tokens or 1)
    jobs = [(row, sample) for row in range(len(prompts)) for sample in range(num_samples)]
    # Longest first: if memory does not suffice, it shows at once.
    jobs.sort(key=lambda job: (-len(prompts[job[0]]), job))
    batches = [jobs[start : start + batch_size] for start in range(0, len(jobs), batch_size)]
    rank, world = process_index_and_count(model_device(model))
    # Under ZeRO-3 and FSDP every forward is collective: all processes must run as many batches.
    turns = -(-len(batches) // world)
    stops = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    device, outputs, lengths = model_device(model), {}, []
    # collective forwards must be as many everywhere
    shrinks = world == 1 and more_inputs is None and can_shrink(model, config)
    with evaluation_mode(model), only_asked_for(model), without_router_logits(model):
        for turn in tqdm(range(turns), desc="generate", disable=not progress or rank > 0):
            number = min(turn * world + rank, len(batches) - 1)
            batch = batches[number]
            ids, mask = pad_left([prompts[row] for row, _ in batch], config.pad_token_id)
            steering = steer([row for row, _ in batch]) if steer else None
            seeded = _batch_rng(device, seed, number) if config.do_sample else nullcontext()
            with seeded, _routed_for(model, None if tasks is None else [tasks[row] for row, _ in batch]):
                if shrinks:
                    rows = generate_shrinking(model, ids.to(device), mask.to(device), config, stops, steering)
                else:
                    found = {} if more_inputs is None else more_inputs([row for row, _ in batch], ids.shape[1])
                    written = model.generate(
                        input_ids=ids.to(device),
                        attention_mask=mask.to(device),
                        generation_config=config,
                        **{name: value.to(device) for name, value in found.items()},
                        **(steering.generate_kwargs() if steering else {}),
                    )
                    rows = getattr(written, "sequences", written)[:, ids.shape[1] :].tolist()
            for place, (job, row) in enumerate(zip(batch, rows, strict=True)):
                own = trim_output(row, stops, config.pad_token_id)
                lengths.append(len(prompts[job[0]]) + len(own))
                outputs[job] = steering.result(place, row) if steering else own
    warn_beyond_context(model, lengths)
    everything = dict(gather(list(outputs.items())))
    return [[everything[row, sample] for sample in range(num_samples)] for row in range(len(prompts))]
