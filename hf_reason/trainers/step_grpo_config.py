"""Configuration of `StepGRPOTrainer`."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from trl import GRPOConfig

from hf_reason._options import numbers_from_text, option, parsed_option

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

        > Parameters that control the teacher

        teacher_kl_weight (`float`, defaults to `0.0`):
            Weight of the divergence from a teacher on the completions' tokens, beside the rewards. 0: there is no
            teacher, and none is loaded.
        teacher_kl_beta (`float`, defaults to `1.0`):
            Which divergence: 1 is the reverse KL, 0 the forward KL, between them the generalised Jensen-Shannon
            divergence (`beta` of `DistillKLConfig`; `beta` of `GRPOConfig` weighs the KL to the reference model).
        teacher_model_name_or_path (`str`, *optional*):
            A model's name or folder; the URL of an OpenAI-compatible server that returns `prompt_logprobs`; or
            `"self"`: the model without its LoRA. It must have the model's vocabulary.
        teacher_model_init_kwargs (`dict` or `str`, *optional*):
            For `from_pretrained` of a live teacher, as JSON on the command line.
        teacher_tokenizer_name_or_path (`str`, *optional*):
            The teacher's tokenizer, to be compared with the model's. Default: the one in the teacher's folder. A
            served teacher needs it.
        teacher_served_model (`str`, *optional*):
            Name of the model on the server. Default: its first.
        teacher_top_k (`int`, defaults to `20`):
            Tokens asked of a server at each position (`top_k` is that of the sampling).
        teacher_probe (`str`, *optional*):
            A local copy of the served model: at the start both score two prompts and must agree.

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
    teacher_kl_weight: float = option(0.0, "Weight of the divergence from a teacher, beside the rewards; 0: none.")
    teacher_kl_beta: float = option(1.0, "1: reverse KL, 0: forward KL, between: generalised JSD.")
    teacher_model_name_or_path: str | None = option(None, "Model, URL of a server, or 'self' (LoRA off).")
    teacher_model_init_kwargs: dict[str, Any] | str | None = option(
        None, "JSON for the teacher's from_pretrained: dtype, load_in_4bit, device_map, ...", card=False
    )
    teacher_tokenizer_name_or_path: str | None = option(
        None, "The teacher's tokenizer. Default: the one in its folder."
    )
    teacher_served_model: str | None = option(None, "Model name on the server.")
    teacher_top_k: int = option(20, "Tokens asked of a teacher's server at each position.")
    teacher_probe: str | None = option(None, "Local copy of the served model, for a parity probe at the start.")
    max_completion_length: int | None = option(1024, "Longest completion in tokens.")

    def __post_init__(self) -> None:
        numbers_from_text(self)
        if self.bf16 is None and not torch.accelerator.is_available():
            self.bf16 = False  # TRL's default is True, which a machine without an accelerator refuses
        super().__post_init__()
        self.teacher_model_init_kwargs = parsed_option("teacher_model_init_kwargs", self.teacher_model_init_kwargs)
        for name in ("step_weight", "teacher_kl_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        if not 0 <= self.teacher_kl_beta <= 1:
            raise ValueError(f"teacher_kl_beta must be between 0 and 1, got {self.teacher_kl_beta}.")
        if self.teacher_top_k < 1:
            raise ValueError(f"teacher_top_k must be above 0, got {self.teacher_top_k}.")
        if self.step_baseline not in BASELINES:
            raise ValueError(f"step_baseline must be one of {', '.join(BASELINES)}, got {self.step_baseline!r}.")
