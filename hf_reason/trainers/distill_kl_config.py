"""Configuration of `DistillKLTrainer`."""

from dataclasses import dataclass
from typing import Any

from hf_reason._options import option, parsed_option
from hf_reason._renamed import renamed
from hf_reason.trainers.loss_terms.tasks import parse_tasks

from .cot_sft_config import CoTSFTConfig


@renamed(
    teacher="teacher_model_name_or_path",
    teacher_tokenizer="teacher_tokenizer_name_or_path",
    teacher_top_k="top_k",
    on_policy_share="lmbda",
    on_policy_max_new_tokens="max_completion_length",
)
@dataclass
class DistillKLConfig(CoTSFTConfig):
    """`CoTSFTConfig` with a teacher.

    The loss is `ce_weight * CE + kl_weight * D + path_weight * P`: the cross-entropy of the records, the divergence
    from the teacher (both means over the target tokens, weighted by `thought_weight`, `answer_weight` and
    `step_weighting`), and the path consistency (a mean over chains of two steps or more).

    Parameters:
        > Parameters that control the loss

        ce_weight (`float`, defaults to `0.5`):
            Weight of the cross-entropy of the records' tokens.
        kl_weight (`float`, defaults to `0.5`):
            Weight of the divergence from the teacher.
        beta (`float`, defaults to `0.0`):
            Which divergence: 0 is the forward KL, 1 the reverse KL, between them the generalised Jensen-Shannon
            divergence.
        temperature (`float`, defaults to `1.0`):
            Divides the logits of teacher and student in the divergence (which is not multiplied by its square), and
            those of the student when it samples on-policy, as in TRL.
        path_weight (`float`, defaults to `0.0`):
            Weight of the path consistency; 0 switches it off.

        > Parameters that control the teacher

        teacher_model_name_or_path (`str` or `dict`, *optional*):
            A model's name or folder; the folder of a top-k cache (`hf-reason cache-teacher`); the URL of an
            OpenAI-compatible server (`http://127.0.0.1:8000/v1`); or `"self"`: the student without its LoRA. Several
            teachers by domain are a mapping, `{"finance": ..., "medical": ..., "default": ...}`, as JSON on the
            command line; each of them is a model, a server or `"self"`.
        teacher_model_init_kwargs (`dict` or `str`, *optional*):
            For `from_pretrained` of a live teacher: `dtype`, `load_in_4bit`, `device_map`, ... As JSON on the command
            line.
        teacher_tokenizer_name_or_path (`str`, *optional*):
            The teacher's tokenizer, to be compared with the student's. Default: the one in the teacher's folder. A
            served teacher needs it.
        teacher_served_model (`str`, *optional*):
            Name of the model on the server. Default: its first.
        top_k (`int`, defaults to `20`):
            Tokens asked of a server at each position.
        teacher_probe (`str`, *optional*):
            A local copy of the served model: at the start both score two records and must agree.

        > Parameters that control on-policy distillation

        lmbda (`float`, defaults to `0.0`):
            Fraction of the batches whose completions the student writes itself; on those, only the teacher is learned
            from.
        max_completion_length (`int`, defaults to `512`):
            Longest of these completions, in tokens.
        on_policy_temperature (`float`, *optional*):
            Sampling temperature of these completions. Default: `temperature`.
        first_steps (`int` or `float`, *optional*):
            Sample and score only the first steps of these completions: so many, or, below 1, this fraction of the
            steps of the record's own thought, rounded up. Default: whole completions.

    > [!NOTE]
    > `lmbda`, `beta`, `temperature` and `max_completion_length` mean what they mean in TRL's `GKDConfig` and
    > `DistillationConfig`. Their defaults differ: `lmbda` is 0 (TRL: 0.5 and 1), `beta` is 0, the forward KL (TRL: 0.5
    > and 1). `top_k` is the number of a served teacher's tokens here, and the sampling's in TRL; the student samples
    > from its whole distribution here, which is TRL's default.
    """

    ce_weight: float = option(0.5, "Weight of the cross-entropy of the records' tokens.")
    kl_weight: float = option(0.5, "Weight of the divergence from the teacher.")
    beta: float = option(0.0, "0: forward KL, 1: reverse KL, between: generalised JSD.")
    temperature: float = option(1.0, "Divides all logits in the divergence, and those of the sampling.")
    path_weight: float = option(0.0, "Weight of the path consistency; 0: off.")
    teacher_model_name_or_path: dict[str, Any] | str | None = option(
        None, "Model, folder of a top-k cache, URL of a server, 'self' (LoRA off), or JSON: domain -> one of them."
    )
    teacher_model_init_kwargs: dict[str, Any] | str | None = option(
        None, "JSON for the teacher's from_pretrained: dtype, load_in_4bit, device_map, ...", card=False
    )
    teacher_tokenizer_name_or_path: str | None = option(
        None, "The teacher's tokenizer. Default: the one in its folder."
    )
    teacher_served_model: str | None = option(None, "Model name on the server.")
    top_k: int = option(20, "Tokens asked of a teacher's server at each position.")
    teacher_probe: str | None = option(None, "Local copy of the served model, for a parity probe at the start.")
    lmbda: float = option(0.0, "Fraction of the batches whose completions the student writes itself.")
    max_completion_length: int = option(512, "Longest completion of these, in tokens.")
    on_policy_temperature: float | None = option(None, "Sampling temperature of these. Default: temperature.")
    first_steps: float | None = option(
        None, "Sample and score only so many steps of these (below 1: a fraction of the record's). Default: all."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.teacher_model_init_kwargs = parsed_option("teacher_model_init_kwargs", self.teacher_model_init_kwargs)
        if isinstance(self.teacher_model_name_or_path, str) and self.teacher_model_name_or_path.lstrip().startswith(
            "{"
        ):
            name = "teacher_model_name_or_path"
            self.teacher_model_name_or_path = parsed_option(name, self.teacher_model_name_or_path)
        for name in ("ce_weight", "kl_weight", "path_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        if self.kl_weight == self.path_weight == 0:
            raise ValueError(
                "kl_weight and path_weight are both 0, so nothing is learned from the teacher. Set one above 0."
            )
        for name in ("beta", "lmbda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}.")
        for name in ("temperature", "on_policy_temperature", "max_completion_length", "top_k"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}.")
        if self.label_smoothing_factor > 0 or self.loss_type != "nll":
            raise ValueError(
                "label_smoothing_factor and loss_type do not work with a teacher, whose distribution is the soft "
                "target. Leave them at 0 and 'nll'."
            )
        if self.mixup_alpha > 0 or any(t.kind == "classification" for t in parse_tasks(self.tasks or {}).values()):  # type: ignore[arg-type]
            raise ValueError(
                "mixup_alpha and classification tasks change what a target is compared with, which a teacher does not "
                "know. Use CoTSFTTrainer for them."
            )
        self._check_first_steps()
        if self.lmbda > 0 and (self.packing or self.padding_free):
            raise ValueError(
                "lmbda needs the prompts of a batch one by one: set packing=False and padding_free=False."
            )

    def _check_first_steps(self) -> None:
        steps = self.first_steps
        if steps is None:
            return
        if isinstance(steps, bool) or not (0 < steps < 1 or (steps >= 1 and float(steps).is_integer())):
            raise ValueError(
                f"first_steps must be a number of steps (1, 2, ...) or a fraction between 0 and 1, got {steps}."
            )
        if self.lmbda == 0:
            raise ValueError("first_steps is for completions that the student writes. Set lmbda above 0.")
        self.first_steps = steps if steps < 1 else int(steps)
