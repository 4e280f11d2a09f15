"""KL distillation on chains of thought, with path consistency: `CoTSFTTrainer` with a teacher."""

import random
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from trl import SFTConfig
from trl.models.utils import unwrap_model_for_generation

from hf_reason._renamed import renamed
from hf_reason.models.lm_head import causal_model
from hf_reason.teachers.base import CACHED_COLUMNS, CACHED_SIMILARITIES, TEACHER_COLUMNS, Teacher, scored
from hf_reason.teachers.by_domain import DomainTeachers
from hf_reason.teachers.live import LiveTeacher
from hf_reason.teachers.source import TeacherSource
from hf_reason.text.spans import ADDED_COLUMNS, DOMAIN_IDS, SPAN_COLUMNS
from hf_reason.trainers.loss_terms.token_weights import fraction

from .arguments import check_collator, check_positions, own_arguments
from .cot_sft import CoTSFTTrainer
from .distill_forward import OVERLAP_TOP_K, Comparison, add_distillation, chains_with_pairs
from .distill_kl_config import DistillKLConfig
from .on_policy import ON_POLICY, own_completions
from .packing import PackingCheck
from .positions import positions_of
from .ratio_sums import RatioSums
from .teacher_setup import (
    Student,
    TeacherSettings,
    cache_collator,
    check_domains,
    link_cache,
    make_teacher,
    open_cache,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NOT_FOR_THE_MODEL = {"labels", ON_POLICY, CACHED_SIMILARITIES, *CACHED_COLUMNS, *SPAN_COLUMNS, *ADDED_COLUMNS}


@renamed(teacher="teacher_model")
class DistillKLTrainer(CoTSFTTrainer):
    """`CoTSFTTrainer` that also learns from a teacher's distributions, and from how its steps relate.

    Neither teacher nor student builds a `[batch, time, vocabulary]` tensor. Evaluation reports the training loss, in
    the same units, and `kl`, `ce` and `path` (nats a token; the path loss is a mean over chains).

    Args:
        model: The student, as in `CoTSFTTrainer`.
        args: The configuration.
        data_collator: As in `CoTSFTTrainer`, and so are `train_dataset`, `eval_dataset`, `processing_class` and
            `others`.
        teacher_model: A model, any `hf_reason.teachers.Teacher`, what `teacher_model_name_or_path` of
            `DistillKLConfig` may name, or a mapping of domains to such. Default: that.
        teacher_tokenizer: The teacher's tokenizer, for a teacher whose folder has none.
        **kwargs: Everything else that `CoTSFTTrainer` accepts.

    Raises:
        ValueError: if teacher and student have different vocabularies, if options exclude each other, or if the
            teacher cannot be used (`TeacherError`).
    """

    _tag_names = ["trl", "sft", "hf_reason", "distillation"]
    _name = "Distill-KL"
    _config_class = DistillKLConfig
    _has_teacher = True
    args: DistillKLConfig  # type: ignore[assignment]

    def __init__(
        self,
        model: "str | PreTrainedModel",
        args: SFTConfig | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: "PreTrainedTokenizerBase | None" = None,
        *others: Any,
        teacher_model: "PreTrainedModel | Teacher | str | None" = None,
        teacher_tokenizer: "PreTrainedTokenizerBase | None" = None,
        **kwargs: Any,
    ):
        check_positions(data_collator)
        own = own_arguments(args, DistillKLConfig, model, self._name)
        source = TeacherSource.parse(own.teacher_model_name_or_path if teacher_model is None else teacher_model)
        self._source, self._cache = source, open_cache(source, own)
        if self._cache is not None:
            self._linked_columns = TEACHER_COLUMNS
        if source.kind == "several":
            self._read_columns = (DOMAIN_IDS,)
            if own.packing or own.padding_free:
                raise ValueError("Several teachers read rows one by one: set packing=False and padding_free=False.")
        super().__init__(model, own, data_collator, train_dataset, eval_dataset, processing_class, *others, **kwargs)
        base = self.accelerator.unwrap_model(self.model)
        self._check_student(base)
        if self._cache is not None:
            plain: Any = self.data_collator
            self.data_collator = cache_collator(self._cache, plain, base, own.path_weight > 0)
        rows: Any = self.train_dataset
        student = Student(base, self._tokenizer, self.accelerator, rows)
        self.teacher: Teacher = (
            make_teacher(source, student, TeacherSettings.of(self.args), teacher_tokenizer)
            if self._cache is None
            else self._cache
        )
        self._check_teacher()
        add_distillation(causal_model(base))
        self._sums = {"train": RatioSums(), "eval": RatioSums()}
        self._pairs: torch.Tensor | None = None

    def _check_given(self, args: Any, data_collator: Any, given: Mapping[str, Any]) -> None:
        if given.get("compute_metrics") is not None:
            raise ValueError("compute_metrics needs logits, which are never built. Use generation_eval.")
        if given.get("compute_loss_func") is not None:
            raise ValueError("compute_loss_func replaces the loss that the teacher belongs to: leave it out.")
        if self._cache is not None and data_collator is not None:
            raise ValueError("A teacher cache is read by the trainer's own collator: leave data_collator out.")
        check_collator(data_collator, (*(SPAN_COLUMNS if args.path_weight > 0 else ()), *self._read_columns))
        super()._check_given(args, data_collator, given)

    def _check_student(self, model: Any) -> None:
        if any(config.is_prompt_learning for config in getattr(model, "peft_config", {}).values()):
            raise ValueError("Prompt-learning adapters shift the positions that the teacher is compared at. Use LoRA.")
        if self.aux_loss_enabled:
            raise ValueError("A mixture's balance loss is not supported with a teacher: set router_aux_loss_coef=0.")

    def _check_teacher(self) -> None:
        """Refuse rows that the teacher cannot read as the student does: too long, or packed."""
        rows: Any = self.train_dataset
        if self.args.lmbda > 0:
            self._positions.check_completions(rows, self.args.max_completion_length)
        for teacher in self.teacher.each if isinstance(self.teacher, DomainTeachers) else [self.teacher]:
            if not isinstance(teacher, LiveTeacher) or teacher.adapter_off:
                continue
            model = causal_model(getattr(teacher.model, "module", teacher.model))
            positions_of(model).check(rows, "train", "teacher")
            if self.padding_free:
                PackingCheck(rows, self.data_collator, nullcontext, "teacher").try_now(model, model.device)

    def _link(self, rows: Any, records: Any, dataset_name: str, args: Any, map_kwargs: dict[str, Any]) -> Any:
        check_domains(self._source, records, dataset_name)
        if self._cache is None:
            return rows
        return link_cache(self._cache, rows, records, dataset_name, args, map_kwargs)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.args.lmbda == 0:
            return batches, count
        # before the batches are counted, so that the divisor is that of what is trained on; every process draws the
        # same, since sharded models generate together
        draw = random.Random(f"{self.args.seed} {self.state.global_step}")
        own = [draw.random() < self.args.lmbda for _ in range(num_batches)]
        for place, batch in enumerate(batches):
            if own[place]:
                batches[place] = self._on_policy(batch, draw.getrandbits(32) + self.args.process_index)
        return batches, self._get_num_items_in_batch(batches, device)

    def _on_policy(self, batch: dict[str, Any], seed: int) -> dict[str, Any]:
        model, args = self.model_wrapped, self.args
        kwargs: Any = args.gradient_checkpointing_kwargs
        model.eval()
        try:
            # seeded by the step and not by what was drawn before, so that a resumed run writes the same
            with (
                torch.random.fork_rng(),
                unwrap_model_for_generation(
                    model, self.accelerator, gradient_checkpointing_kwargs=kwargs
                ) as unwrapped,
            ):
                torch.manual_seed(seed)
                return own_completions(
                    unwrapped,
                    batch,
                    self._tokenizer,
                    self.data_collator,
                    max_new_tokens=args.max_completion_length,
                    temperature=args.on_policy_temperature or args.temperature,
                    first_steps=args.first_steps,
                    note=partial(self._sums["train"].add, batch["input_ids"].device),
                )
        finally:
            model.train()

    def _token_weights(self, batch: dict[str, Any]) -> torch.Tensor:
        """`(batch, time - 1)`: weight of every target, 0 elsewhere."""
        weights = self.loss_terms.token_weights.of(batch)
        return scored(batch["labels"]).float() if weights is None else weights

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Any:
        if not batch_samples:
            return None
        counts = torch.stack(
            [
                torch.stack([self._token_weights(b).sum().to(device), self._count_pairs(b).to(device)])
                for b in batch_samples
            ]
        ).sum(dim=0)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            counts = self.accelerator.gather(counts.unsqueeze(0)).sum(dim=0)
        # the Trainer hands one number on to the steps of the accumulation; the other waits here
        counts = counts / (self.get_tp_size() * self.get_cp_size() * self.get_sp_size())
        self._pairs = counts[1]
        return counts[0]

    def _count_pairs(self, batch: dict[str, Any]) -> torch.Tensor:
        if self.args.path_weight == 0 or "step_ids" not in batch:
            return torch.zeros(())
        return chains_with_pairs(batch["step_ids"]).float()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        args, on_policy = self.args, bool(inputs.get(ON_POLICY, False))
        if "shift_labels" in inputs:
            raise ValueError("Context and sequence parallelism are not supported with a teacher.")
        self._check_packing(model)
        if not on_policy:
            self._check_first_batch(inputs)
        path = args.path_weight > 0 and "step_ids" in inputs
        weights = self._token_weights(inputs)
        total, pairs = weights.sum(), self._count_pairs(inputs)
        scale: float = 1.0
        if num_items_in_batch is not None:
            total, pairs = torch.as_tensor(num_items_in_batch), self._pairs if self._pairs is not None else pairs
            if args.average_tokens_across_devices:
                # the counts are those of all processes, whose gradients DDP averages
                scale = float(self.accelerator.num_processes // self.get_tp_size())
        unit = weights * fraction(scale, total.to(weights.device))
        importance = self.loss_terms.importance.of(inputs, self._moment)
        if importance is not None:
            unit = unit * importance
        device = weights.device
        with self.teacher.targets(inputs, path_consistency=path) as targets:
            comparison = Comparison(
                targets=targets,
                labels=inputs["labels"],
                step_ids=inputs.get("step_ids"),
                kl_weights=args.kl_weight * unit,
                ce_weights=(0.0 if on_policy else args.ce_weight) * unit,
                path_weight=args.path_weight * scale / pairs.to(device).clamp(min=1) if path else 0.0,
                beta=args.beta,
                temperature=args.temperature,
                vocab_size=self.teacher.vocab_size,
                top_k=OVERLAP_TOP_K if on_policy else 0,
            )
            given = {name: value for name, value in inputs.items() if name not in _NOT_FOR_THE_MODEL}
            outputs = model(**given, use_cache=False, comparison=comparison)
        self._note(inputs, weights, outputs, self._mode)
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    @property
    def _mode(self) -> str:
        return "train" if self._moment.training else "eval"

    def _note(self, inputs: dict[str, Any], weights: torch.Tensor, outputs: Any, mode: str) -> None:
        """Add to what will be logged, without a wait for the device."""
        chosen = weights[scored(inputs["labels"])].double()
        tokens = inputs["attention_mask"].sum() if "attention_mask" in inputs else inputs["input_ids"].numel()
        parts: dict[str, tuple[Any, Any]] = {
            "kl": ((chosen * outputs.divergence).sum(), chosen.sum()),
            "ce": ((chosen * outputs.nll).sum(), chosen.sum()),
            "num_tokens": (tokens, None),
        }
        if self.args.path_weight > 0:
            path = outputs.path if outputs.path is not None else chosen.new_zeros(1)
            parts["path"] = (path.sum(), self._count_pairs(inputs))
        if outputs.overlap is not None:
            seen = {"top_k_overlap": outputs.overlap, "entropy": outputs.entropy}
            parts |= {name: (values.sum(), values.numel()) for name, values in seen.items()}
        self._sums[mode].add(chosen.device, parts)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        mode = self._mode
        figures = self._sums[mode].take(self.accelerator)
        if figures:
            if mode == "train":
                self._total_train_tokens += int(figures.get("num_tokens", 0))
            nothing = dict.fromkeys(("kl", "ce", *(("path",) if self.args.path_weight > 0 else ())), 0.0)
            figures = {**nothing, **figures, "num_tokens": self._total_train_tokens}
            self._metrics[mode].update({name: [value] for name, value in figures.items()})
        super().log(logs, start_time)

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[torch.Tensor | None, None, None]:
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs).detach(), None, None
