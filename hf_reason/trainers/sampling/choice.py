"""Which sampler a run has."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Sampler

from hf_reason.text.spans import DOMAIN_IDS

from .curriculum import curriculum_stages
from .difficulty import solve_rates
from .domains import DomainPlan, plan_domains
from .length_groups import LengthGroupedSampler
from .order import domain_of_rows, first_of_rows, last_steps, lengths, weight_sums
from .staged import Stage, StagedSampler

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_reason.trainers.cot_sft_config import CoTSFTConfig

logger = logging.getLogger(__name__)


class TrainOrder:
    """The order of a run's examples: by domain ratios, by a curriculum, by length, or as TRL has it.

    Args:
        args: The configuration.

    Attributes:
        plan: What becomes of each domain; known once the training set is prepared.
        rates: How often each problem is solved, where the curriculum goes by that.
        unsolved: How often the problem of each row is not, in percent; known once the training set is prepared.
    """

    def __init__(self, args: "CoTSFTConfig"):
        self.args = args
        self.plan: DomainPlan | None = None
        self.rates = solve_rates(args.difficulty_from) if args.difficulty_from is not None else None
        self.unsolved: list[int] = []

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data set that the order depends on, beyond the tokens."""
        return (DOMAIN_IDS,) if self.args.samples_domains else ()

    def prepare(self, dataset: "Dataset") -> DomainPlan:
        """Count the domains of the prepared training set, whose rows must have their column.

        Raises:
            ValueError: see `plan_domains`.
        """
        self.plan = plan_of(dataset, self.args)
        logger.warning("domains: %s", self.plan)
        return self.plan

    def take_rates(self, dataset: Any, column: str, name: str) -> Any:
        """The data set without the column of its pass rates, which are kept for the order of the training set."""
        if column not in (dataset.column_names or []):
            return dataset
        if name == "train":
            self.unsolved = first_of_rows(dataset, column)
        return dataset.remove_columns(column)

    def sampler(self, dataset: Any) -> "Sampler[int] | None":
        """The sampler; `None` where TRL's does."""
        args = self.args
        if args.samples_domains or args.curriculum:
            return staged_sampler(dataset, args, self.plan if args.samples_domains else None, self.unsolved)
        if args.train_sampling_strategy != "group_by_length" or not hasattr(dataset, "with_format"):
            return None
        return LengthGroupedSampler(lengths(dataset), args.train_batch_size * args.world_size, args.seed)


def plan_of(dataset: "Dataset", args: "CoTSFTConfig") -> DomainPlan:
    """The domains of a prepared training set under the arguments' ratios and target.

    Raises:
        ValueError: see `plan_domains`.
    """
    rows, sums = np.asarray(domain_of_rows(dataset)), weight_sums(dataset, args)
    sizes = {int(key): float(sums[rows == key].mean()) for key in np.unique(rows)}
    ratios: Any = args.domain_ratios
    target: Any = args.domain_target
    return plan_domains(
        Counter(rows.tolist()), sizes, temperature=args.domain_temperature, ratios=ratios, target=target
    )


def staged_sampler(
    dataset: "Dataset", args: "CoTSFTConfig", plan: DomainPlan | None, unsolved: Sequence[int] = ()
) -> StagedSampler:
    """The sampler of a run with domain ratios or a curriculum.

    Args:
        dataset: The prepared training set.
        args: For the curriculum, the sizes of a step, the seed and `train_sampling_strategy`.
        plan: Ratios of the domains; `None` draws from all examples with the same probability.
        unsolved: How often the problem of each row is not solved.
    """
    groups: list[tuple[list[int], float]]
    if plan is None:
        groups = [(list(range(len(dataset))), 1.0)]
    else:
        rows = np.asarray(domain_of_rows(dataset))
        groups = [(np.flatnonzero(rows == key).tolist(), ratio) for key, ratio in plan.ratios.items() if ratio > 0]
    batch = args.train_batch_size * args.world_size
    tokens = lengths(dataset)
    stages = [Stage(0, tuple((tuple(pool), ratio) for pool, ratio in groups))]
    if args.curriculum == "pass_rate" and len(unsolved) != len(dataset):
        raise ValueError("curriculum=pass_rate goes by the ids of records: train on records, not on encoded rows.")
    if args.curriculum is not None:
        step = batch * args.gradient_accumulation_steps
        draws = args.max_steps * step if args.max_steps > 0 else round(args.num_train_epochs * len(dataset))
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(args.seed)).tolist()
        difficulty: dict[str, Callable[[], Sequence[int]]] = {
            "steps": lambda: last_steps(dataset),
            "length": lambda: tokens,
            "pass_rate": lambda: unsolved,
            "size": lambda: order,
        }
        stages = curriculum_stages(
            groups,
            difficulty[args.curriculum](),
            stages=args.curriculum_stages,
            draws=round(draws * args.curriculum_ratio),
            batch_size=step,
        )
    by_length = args.train_sampling_strategy == "group_by_length"
    return StagedSampler(stages, len(dataset), batch, args.seed, tokens if by_length else None)
