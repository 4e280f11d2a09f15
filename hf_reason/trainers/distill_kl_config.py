"""Configuration of `DistillKLTrainer`."""

from dataclasses import dataclass, field
from typing import Any

from hf_reason._options import parsed_option
from hf_reason.trainers.loss_terms.tasks import parse_tasks

from .cot_sft_config import CoTSFTConfig


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
            Divides the logits of teacher and student in the divergence (which is not multiplied by its square).
        path_weight (`float`, defaults to `0.0`):
            Weight of the path consistency; 0 switches it off.

        > Parameters that control the teacher

        teacher (`str`, *optional*):
            A model's name or folder; the folder of a top-k cache (`recipes/cache_teacher.py`); the URL of an
            OpenAI-compatible server (`http://127.0.0.1:8000/v1`); or `"self"`: the student without its LoRA.
        teacher_model_init_kwargs (`dict` or `str`, *optional*):
            For `from_pretrained` of a live teacher: `dtype`, `load_in_4bit`, `device_map`, ... As JSON on the command
            line.
        teacher_tokenizer (`str`, *optional*):
            The teacher's tokenizer, to be compared with the student's. Default: the one in the teacher's folder. A
            served teacher needs it.
        teacher_served_model (`str`, *optional*):
            Name of the model on the server. Default: its first.
        teacher_top_k (`int`, defaults to `20`):
            Tokens asked of a server at each position.
        teacher_probe (`str`, *optional*):
            A local copy of the served model: at the start both score two records and must agree.

        > Parameters that control on-policy distillation

        on_policy_share (`float`, defaults to `0.0`):
            Share of the batches whose completions the student writes itself; on those, only the teacher is learned
            from.
        on_policy_max_new_tokens (`int`, defaults to `512`):
            Longest completion of these.
        on_policy_temperature (`float`, defaults to `1.0`):
            Sampling temperature of these.
    """

    ce_weight: float = field(default=0.5, metadata={"help": "Weight of the cross-entropy of the records' tokens."})
    kl_weight: float = field(default=0.5, metadata={"help": "Weight of the divergence from the teacher."})
    beta: float = field(default=0.0, metadata={"help": "0: forward KL, 1: reverse KL, between: generalised JSD."})
    temperature: float = field(default=1.0, metadata={"help": "Divides all logits in the divergence."})
    path_weight: float = field(default=0.0, metadata={"help": "Weight of the path consistency; 0: off."})
    teacher: str | None = field(
        default=None, metadata={"help": "Model, folder of a top-k cache, URL of a server, or 'self' (LoRA off)."}
    )
    teacher_model_init_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "JSON for the teacher's from_pretrained: dtype, load_in_4bit, device_map, ..."}
    )
    teacher_tokenizer: str | None = field(
        default=None, metadata={"help": "The teacher's tokenizer. Default: the one in its folder."}
    )
    teacher_served_model: str | None = field(default=None, metadata={"help": "Model name on the server."})
    teacher_top_k: int = field(default=20, metadata={"help": "Tokens asked of a server at each position."})
    teacher_probe: str | None = field(
        default=None, metadata={"help": "Local copy of the served model, for a parity probe at the start."}
    )
    on_policy_share: float = field(default=0.0, metadata={"help": "Share of batches that the student writes itself."})
    on_policy_max_new_tokens: int = field(default=512, metadata={"help": "Longest completion of these, in tokens."})
    on_policy_temperature: float = field(default=1.0, metadata={"help": "Sampling temperature of these."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.teacher_model_init_kwargs = parsed_option("teacher_model_init_kwargs", self.teacher_model_init_kwargs)
        for name in ("ce_weight", "kl_weight", "path_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        if self.kl_weight == self.path_weight == 0:
            raise ValueError(
                "kl_weight and path_weight are both 0, so nothing is learned from the teacher. Set one above 0."
            )
        for name in ("beta", "on_policy_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}.")
        for name in ("temperature", "on_policy_temperature", "on_policy_max_new_tokens", "teacher_top_k"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}.")
        if self.label_smoothing_factor > 0 or self.loss_type != "nll":
            raise ValueError(
                "label_smoothing_factor and loss_type do not go with a teacher, whose distribution is the soft "
                "target. Leave them at 0 and 'nll'."
            )
        if self.mixup_alpha > 0 or any(t.kind == "classification" for t in parse_tasks(self.tasks or {}).values()):  # type: ignore[arg-type]
            raise ValueError(
                "mixup_alpha and classification tasks change what a target is compared with, which a teacher does not "
                "know. Use CoTSFTTrainer for them."
            )
        if self.on_policy_share > 0 and (self.packing or self.padding_free):
            raise ValueError(
                "on_policy_share needs the prompts of a batch one by one: set packing=False and padding_free=False."
            )
