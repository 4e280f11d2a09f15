"""The order of training: lengths, steps and domains of a prepared data set, and the sampler they give."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hf_reason.losses import token_weights
from hf_reason.text.spans import DOMAIN_IDS

from .domains import DomainPlan, counted, plan_domains
from .samplers import Stage, StagedSampler, curriculum_stages

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_reason.trainers.cot_sft_config import CoTSFTConfig

_CHUNK = 2000  # rows whose tokens are looked at together


def lengths(dataset: "Dataset") -> list[int]:
    """Tokens of each example."""
    import pyarrow.compute as pc

    return pc.list_value_length(dataset.with_format("arrow")["input_ids"][:]).to_pylist()  # type: ignore[no-any-return]


def _chunks(dataset: "Dataset", *columns: str) -> Iterable[tuple[np.ndarray, list[np.ndarray]]]:
    """Where the rows of a chunk begin, and the columns' values, one row after the other."""
    table = dataset.with_format("arrow")
    for start in range(0, len(dataset), _CHUNK):
        chunk = table[start : start + _CHUNK]
        parts = [chunk[column].combine_chunks() for column in columns]
        sizes = parts[0].value_lengths().to_numpy(zero_copy_only=False)
        yield np.cumsum(sizes) - sizes, [part.flatten().to_numpy(zero_copy_only=False) for part in parts]


def last_steps(dataset: "Dataset") -> list[int]:
    """Number of steps of each example, its answer included."""
    return [int(n) for starts, (steps,) in _chunks(dataset, "step_ids") for n in np.maximum.reduceat(steps, starts)]


def domain_of_rows(dataset: "Dataset") -> list[int]:
    """Domain id of each row; packed rows hold one domain each."""
    return [int(n) for starts, (ids,) in _chunks(dataset, DOMAIN_IDS) for n in ids[starts]]


def weight_sums(dataset: "Dataset", args: "CoTSFTConfig") -> np.ndarray:
    """Sum of the token weights of each row, `(rows,)`, by `token_weights`."""
    found = []
    for starts, parts in _chunks(dataset, "labels", "segment_ids", "step_ids"):
        labels, segments, steps = (torch.from_numpy(part.astype(np.int64)).unsqueeze(0) for part in parts)
        weights = token_weights(
            labels,
            segments,
            steps,
            thought_weight=args.thought_weight,
            answer_weight=args.answer_weight,
            step_weighting=args.step_weighting,
        )
        found.append(np.add.reduceat(weights[0].double().numpy(), starts))
    return np.concatenate(found)


def plan_of(dataset: "Dataset", args: "CoTSFTConfig") -> DomainPlan:
    """The domains of a prepared training set under the arguments' shares and target.

    Raises:
        ValueError: see `plan_domains`.
    """
    rows, sums = np.asarray(domain_of_rows(dataset)), weight_sums(dataset, args)
    sizes = {int(key): float(sums[rows == key].mean()) for key in np.unique(rows)}
    shares: Any = args.domain_shares
    target: Any = args.domain_target
    return plan_domains(
        counted(rows.tolist()), sizes, temperature=args.domain_temperature, shares=shares, target=target
    )


def staged_sampler(dataset: "Dataset", args: "CoTSFTConfig", plan: DomainPlan | None) -> StagedSampler:
    """The sampler of a run with domain shares or a curriculum.

    Args:
        dataset: The prepared training set.
        args: For the curriculum, the sizes of a step, the seed and `train_sampling_strategy`.
        plan: Shares of the domains; `None` draws from all examples alike.
    """
    groups: list[tuple[list[int], float]]
    if plan is None:
        groups = [(list(range(len(dataset))), 1.0)]
    else:
        rows = np.asarray(domain_of_rows(dataset))
        groups = [(np.flatnonzero(rows == key).tolist(), share) for key, share in plan.shares.items() if share > 0]
    batch = args.train_batch_size * args.world_size
    tokens = lengths(dataset)
    stages = [Stage(0, tuple((tuple(pool), share) for pool, share in groups))]
    if args.curriculum is not None:
        step = batch * args.gradient_accumulation_steps
        draws = args.max_steps * step if args.max_steps > 0 else round(args.num_train_epochs * len(dataset))
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(args.seed)).tolist()
        difficulty = {"steps": lambda: last_steps(dataset), "length": lambda: tokens, "size": lambda: order}
        stages = curriculum_stages(
            groups,
            difficulty[args.curriculum](),
            stages=args.curriculum_stages,
            draws=round(draws * args.curriculum_share),
            batch_size=step,
        )
    by_length = args.train_sampling_strategy == "group_by_length"
    return StagedSampler(stages, len(dataset), batch, args.seed, tokens if by_length else None)
