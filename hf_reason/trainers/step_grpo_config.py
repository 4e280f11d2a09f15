"""Configuration of `StepGRPOTrainer`."""

from dataclasses import dataclass

import torch
from trl import GRPOConfig

from hf_reason._options import numbers_from_text, option

BASELINES = ["depth", "running"]


@dataclass
class StepGRPOConfig(GRPOConfig):
    """`GRPOConfig` with credit for single steps.

    The advantage of a token is that of its completion, as in TRL, plus `step_weight` times that of the step in which
    it stands.

    Parameters:
        > Parameters that control the credit

        step_weight (`float`, defaults to `0.5`):
            Weight of a step's own advantage; with 0 the loss is that of `GRPOTrainer`.
        step_baseline (`str`, defaults to `"depth"`):
            What a step is compared with: the steps at the same `"depth"` in the other completions of its group, or the
            `"running"` mean over all steps of the run. Scaled by the standard deviation of the same unless
            `scale_rewards` is `"none"`.
        stop_credit_at_error (`bool`, defaults to `True`):
            Steps after the first wrong one have no advantage of their own, and are no part of a baseline.

        > Parameters that control the problems

        skip_settled (`bool`, defaults to `False`):
            A problem whose last n groups were all right, or all wrong, is left out of the next n epochs. Other
            problems take its place, so that an epoch keeps its length. For records.
        difficulty_from (`str`, *optional*):
            `predictions.jsonl` of an evaluation of the training split with several `num_samples` (or its folder):
            problems that were always or never solved there are left out.

    > [!NOTE]
    > Defaults that differ from `GRPOConfig`: `max_completion_length` is 1024 (TRL: 512), since thoughts are long;
    > `bf16` is off where there is no accelerator.
    """

    step_weight: float = option(0.5, "Weight of a step's own advantage; 0: GRPO.")
    step_baseline: str = option(
        "depth",
        "A step is compared with those at the same depth of its group, or with a running mean.",
        choices=BASELINES,
    )
    stop_credit_at_error: bool = option(True, "No credit of their own for steps after the first wrong one.")
    skip_settled: bool = option(False, "Leave out problems whose last groups were all right or all wrong.")
    difficulty_from: str | None = option(
        None, "Predictions of an evaluation: leave out problems always or never solved there.", card=False
    )
    max_completion_length: int | None = option(1024, "Longest completion in tokens.")

    def __post_init__(self) -> None:
        numbers_from_text(self)
        if self.bf16 is None and not torch.accelerator.is_available():
            self.bf16 = False  # TRL's default is True, which a machine without an accelerator refuses
        super().__post_init__()
        if self.step_weight < 0:
            raise ValueError(f"step_weight must not be negative, got {self.step_weight}.")
        if self.step_baseline not in BASELINES:
            raise ValueError(f"step_baseline must be one of {', '.join(BASELINES)}, got {self.step_baseline!r}.")
