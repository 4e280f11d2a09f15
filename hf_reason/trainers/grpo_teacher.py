"""Distillation joined into GRPO: the divergence from a teacher on the completions, beside the rewards."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from hf_reason.models.lm_head import causal_model
from hf_reason.teachers.base import scored
from hf_reason.teachers.source import TeacherSource
from hf_reason.text.spans import IGNORE_INDEX

from .distill_forward import OVERLAP_TOP_K, Comparison, DistillOutput, add_comparison
from .ratio_sums import RatioSums
from .teacher_setup import Student, TeacherSettings, make_teacher

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from .step_grpo_config import StepGRPOConfig


def teacher_source(args: "StepGRPOConfig", teacher_model: Any) -> TeacherSource | None:
    """The teacher that a run has, recognised and not loaded; `None` where its weight is 0.

    Raises:
        TeacherError: if there is none, or no such folder.
        ValueError: if it cannot read new text.
    """
    if args.teacher_kl_weight == 0:
        return None
    given = args.teacher_model_name_or_path if teacher_model is None else teacher_model
    if isinstance(given, Mapping):
        raise ValueError("GRPO has one teacher. Give one, or use DistillKLTrainer for several.")
    source = TeacherSource.parse(given)
    if source.kind == "cache":
        raise ValueError(
            "teacher_kl_weight needs a teacher that reads new text; a cache holds the records only. Give a model, a "
            "server or 'self'."
        )
    return source


class TeacherTerm:
    """`teacher_kl_weight` times the mean divergence over the completions' tokens.

    The mean is over the tokens that an optimizer step trains on, in nats, divided as TRL divides the loss type `dapo`,
    whatever the loss type is. Both sides are at the sampling temperature.

    Args:
        source: The teacher.
        student: What it is fitted to.
        args: The configuration.
        tokenizer: The teacher's; default: the one that `args` or the teacher's folder names.

    Raises:
        ValueError: if the vocabularies differ, or the student cannot be compared.
        TeacherError: if the teacher cannot be used.
    """

    def __init__(
        self,
        source: TeacherSource,
        student: Student,
        args: "StepGRPOConfig",
        tokenizer: "PreTrainedTokenizerBase | None",
    ):
        if any(config.is_prompt_learning for config in getattr(student.model, "peft_config", {}).values()):
            raise ValueError("Prompt-learning adapters shift the positions that the teacher is compared at. Use LoRA.")
        self.teacher = make_teacher(source, student, TeacherSettings.of(args), tokenizer)
        self.weight, self.beta, self.temperature = args.teacher_kl_weight, args.teacher_kl_beta, args.temperature
        self.accelerator = student.accelerator
        self._sums = {"train": RatioSums(), "eval": RatioSums()}
        add_comparison(causal_model(student.model))

    def add_to(
        self, plain: Callable[..., torch.Tensor], model: Any, inputs: Mapping[str, Any], mode: str, fraction: float
    ) -> torch.Tensor:
        """The loss of a batch with the term in it.

        Args:
            plain: TRL's loss, called with the model and the batch.
            model: With its wrappers.
            inputs: A batch of GRPO: prompts padded on the left, completions on the right.
            mode: `"train"` or `"eval"`, for the log.
            fraction: Of a process's part of the generation batch that an optimizer step trains on.

        Raises:
            ValueError: if the batch has images.
        """
        if "pixel_values" in inputs:
            raise ValueError("The teacher reads text only. Set teacher_kl_weight=0 for data sets with images.")
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        mask = inputs["completion_mask"]
        attention = torch.cat([inputs["prompt_mask"], mask], dim=1)
        counted = mask * inputs["tool_mask"] if "tool_mask" in inputs else mask
        counted = torch.cat([torch.zeros_like(inputs["prompt_mask"]), counted], dim=1)
        labels = ids.masked_fill(counted == 0, IGNORE_INDEX)
        # of all processes, whose gradients are averaged
        tokens = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes * fraction
        weights = scored(labels) * (self.weight / tokens.to(ids.device))
        found: list[DistillOutput] = []
        with self.teacher.targets(_padded_right(ids, attention, labels), path_consistency=False) as targets:
            comparison = Comparison(
                targets=targets,
                labels=labels,
                step_ids=None,
                kl_weights=weights,
                ce_weights=torch.zeros_like(weights),
                path_weight=0.0,
                beta=self.beta,
                temperature=self.temperature,
                vocab_size=self.teacher.vocab_size,
                top_k=OVERLAP_TOP_K,
                keep=found.append,
            )
            loss = plain(partial(model, comparison=comparison), inputs)
        term: Any = found[-1]
        seen = {"teacher_kl": term.divergence, "top_k_overlap": term.overlap}
        self._sums[mode].add(ids.device, {name: (values.sum(), values.numel()) for name, values in seen.items()})
        return loss + term.loss  # type: ignore[no-any-return]

    def figures(self, mode: str) -> dict[str, list[float]]:
        """`teacher_kl`, nats a token, and `top_k_overlap` since the last call, over all processes."""
        return {name: [value] for name, value in self._sums[mode].take(self.accelerator).items()}


def _padded_right(ids: torch.Tensor, attention: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """The rows with all padding behind them: what a teacher reads, in the same order."""
    order = (attention == 0).int().argsort(dim=1, stable=True)[:, : int(attention.sum(dim=1).max())]
    columns = {"input_ids": ids, "attention_mask": attention, "labels": labels}
    return {name: value.gather(1, order) for name, value in columns.items()}
