"""KL distillation on chains of thought, with path consistency: `CoTSFTTrainer` with a teacher."""

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from trl.models.utils import unwrap_model_for_generation

from hf_reason.models.lm_head import causal_model
from hf_reason.teachers.base import CACHED_COLUMNS, CACHED_SIMILARITIES, TEACHER_COLUMNS, Teacher, scored
from hf_reason.teachers.cache import CacheCollator, TopKCache
from hf_reason.teachers.cache_format import META, SETTINGS
from hf_reason.teachers.errors import TeacherError
from hf_reason.teachers.live import LiveTeacher
from hf_reason.teachers.loading import load_teacher_model, prepare_teacher_model
from hf_reason.text.spans import ADDED_COLUMNS, SPAN_COLUMNS
from hf_reason.text.vocabulary import shared_vocabulary

from .cot_sft import CoTSFTTrainer
from .distill_forward import Comparison, add_distillation, chains_with_pairs
from .distill_kl_config import DistillKLConfig
from .on_policy import ON_POLICY, own_completions

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NOT_FOR_THE_MODEL = {"labels", ON_POLICY, CACHED_SIMILARITIES, *CACHED_COLUMNS, *SPAN_COLUMNS, *ADDED_COLUMNS}


class DistillKLTrainer(CoTSFTTrainer):
    """`CoTSFTTrainer` that also learns from a teacher's distributions, and from how its steps relate.

    Neither teacher nor student builds a `[batch, time, vocabulary]` tensor. Evaluation reports the training loss, in
    the same units, and `kl`, `ce` and `path` (nats a token; the path loss is a mean over chains).

    Args:
        model: The student, as in `CoTSFTTrainer`.
        args: The configuration.
        teacher: A model, any `hf_reason.teachers.Teacher`, or what `DistillKLConfig.teacher` may name. Default: that.
        teacher_tokenizer: The teacher's tokenizer, for a teacher whose folder holds none.
        **kwargs: Everything else that `CoTSFTTrainer` takes.

    Raises:
        ValueError: if teacher and student have different vocabularies, if options exclude each other, or if the
            teacher cannot be used (`TeacherError`).
    """

    _tag_names = ["trl", "sft", "hf_reason", "distillation"]
    _name = "Distill-KL"
    args: DistillKLConfig  # type: ignore[assignment]

    def __init__(
        self,
        model: "str | PreTrainedModel",
        args: DistillKLConfig | None = None,
        *positional: Any,
        teacher: "PreTrainedModel | Teacher | str | None" = None,
        teacher_tokenizer: "PreTrainedTokenizerBase | None" = None,
        **kwargs: Any,
    ):
        if args is None:
            name = model if isinstance(model, str) else model.config.name_or_path or "model"
            args = DistillKLConfig(f"{name.split('/')[-1]}-Distill-KL")
        source: Any = args.teacher if teacher is None else teacher
        if source is None:
            raise ValueError(
                "There is no teacher. Give teacher=...: a model, a top-k cache, a server's URL or 'self'."
            )
        if kwargs.get("compute_metrics") is not None:
            raise ValueError("compute_metrics needs logits, which are never built. Use generation_eval.")
        self._cache = None
        if isinstance(source, str) and any(Path(source, name).is_file() for name in (META, SETTINGS)):
            self._cache = TopKCache(source, temperature=args.temperature, path_consistency=args.path_weight > 0)
            self._added_columns = TEACHER_COLUMNS
            if args.on_policy_share > 0:
                raise ValueError(
                    "on_policy_share needs a teacher that reads new text; a cache holds the records only."
                )
            if args.overlong == "split":
                raise ValueError(
                    "overlong='split' makes new examples of the records, which a cache holds whole. Use "
                    "overlong='drop', or a teacher that runs."
                )
            if args.path_weight > 0 and args.overlong == "truncate":
                raise ValueError("overlong='truncate' cuts steps that the cache holds whole. Use overlong='drop'.")
            if kwargs.get("data_collator") is not None:
                raise ValueError("A teacher cache is read by the trainer's own collator: leave data_collator out.")
        super().__init__(model, args, *positional, **kwargs)
        base = self.accelerator.unwrap_model(self.model)
        self._check_student(base)
        if self._cache is not None:
            self._use_cache(self._cache, base)
        self.teacher: Teacher = (
            self._make_teacher(source, base, teacher_tokenizer) if self._cache is None else self._cache
        )
        add_distillation(causal_model(base))
        self._sums: dict[str, torch.Tensor | None] = {"train": None, "eval": None}
        self._pairs: torch.Tensor | None = None

    def _check_student(self, model: Any) -> None:
        if any(config.is_prompt_learning for config in getattr(model, "peft_config", {}).values()):
            raise ValueError("Prompt-learning adapters shift the positions that the teacher is compared at. Use LoRA.")
        if self.aux_loss_enabled:
            raise ValueError("output_router_logits (a mixture's balance loss) is not supported with a teacher.")

    def _use_cache(self, cache: TopKCache, model: Any) -> None:
        rows = causal_model(model).get_output_embeddings().weight.shape[0]
        if 0 < rows < cache.vocab_size:  # 0: a ZeRO-3 partition
            raise TeacherError(
                f"The teacher cache {cache.folder} has ids up to {cache.vocab_size - 1}, the student's head "
                f"has {rows} rows."
            )
        plain: Any = self.data_collator
        self.data_collator = CacheCollator(
            pad_token_id=plain.pad_token_id,
            padding_free=plain.padding_free,
            return_position_ids=plain.return_position_ids,
            pad_to_multiple_of=plain.pad_to_multiple_of,
            cache=cache,
            path_consistency=self.args.path_weight > 0,
        )

    def _make_teacher(self, source: Any, student: Any, tokenizer: "PreTrainedTokenizerBase | None") -> Teacher:
        args = self.args
        if not isinstance(source, str):
            if hasattr(source, "targets"):
                return source  # type: ignore[no-any-return]
            return self._live(source, tokenizer, student)
        if source == "self":
            if not hasattr(student, "disable_adapter"):
                raise ValueError("teacher='self' is the student without its LoRA: pass a peft_config (use_peft).")
            if self.is_deepspeed_enabled or self.is_fsdp_enabled:
                raise ValueError("teacher='self' works with DDP and single processes, not with DeepSpeed or FSDP.")
            if any(config.modules_to_save for config in student.peft_config.values()):
                raise ValueError("teacher='self' needs the base model unchanged: leave modules_to_save empty.")
            return LiveTeacher(student, len(self._tokenizer), adapter_off=True)
        if source.startswith(("http://", "https://")):
            from .served_teacher import connect

            return connect(source, self, tokenizer)
        init: Any = args.teacher_model_init_kwargs
        return self._live(load_teacher_model(source, init, args.trust_remote_code), tokenizer, student)

    def _live(self, model: Any, tokenizer: "PreTrainedTokenizerBase | None", student: Any) -> LiveTeacher:
        tokenizer = tokenizer or self.load_teacher_tokenizer(model.config.name_or_path)
        rows = [head.weight.shape[0] for m in (student, model) if (head := causal_model(m).get_output_embeddings())]
        size = shared_vocabulary(self._tokenizer, tokenizer, *(count for count in rows if count))
        return LiveTeacher(prepare_teacher_model(model, self.accelerator), size)

    def load_teacher_tokenizer(self, default: str | None) -> "PreTrainedTokenizerBase":
        """The tokenizer that `args.teacher_tokenizer` or `default` names.

        Raises:
            TeacherError: if there is none, so that the vocabularies cannot be compared.
        """
        from transformers import AutoTokenizer

        name = self.args.teacher_tokenizer or default
        mend = "Give teacher_tokenizer: ids can only be compared with the teacher's tokenizer at hand."
        if not name:
            raise TeacherError(f"The teacher has no name, so its tokenizer is not known. {mend}")
        try:
            return AutoTokenizer.from_pretrained(  # type: ignore[no-any-return]
                name, trust_remote_code=self.args.trust_remote_code
            )
        except (OSError, ValueError) as error:
            what = " ".join(str(error).split())[:200]
            raise TeacherError(f"The teacher's tokenizer {name!r} cannot be loaded: {what}. {mend}") from error

    def _add_columns(
        self, encoded: Any, records: Any, dataset_name: str, args: Any, map_kwargs: dict[str, Any]
    ) -> Any:
        if self._cache is None:
            return encoded
        if hasattr(encoded, "_ex_iterable"):
            raise ValueError(
                f"The {dataset_name} data set is streamed; a teacher cache needs one that is at hand: load it without "
                "streaming=True."
            )
        names = records["id"] if "id" in records.column_names else [""] * len(records)
        longest = args.max_length if args.overlong == "drop" else None
        return self._cache.link(encoded, list(names), dataset_name, longest, **map_kwargs)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.args.on_policy_share == 0:
            return batches, count
        # before the batches are counted, so that the divisor is that of what is trained on; every process draws alike,
        # since sharded models generate together
        draw = random.Random(f"{self.args.seed} {self.state.global_step}")
        own = [draw.random() < self.args.on_policy_share for _ in range(num_batches)]
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
                    max_new_tokens=args.on_policy_max_new_tokens,
                    temperature=args.on_policy_temperature,
                )
        finally:
            model.train()

    def _token_weights(self, batch: dict[str, Any]) -> torch.Tensor:
        """`(batch, time - 1)`: weight of every target, 0 elsewhere."""
        weights = self._weights(batch)
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
        if not self._first_batch_checked and not on_policy:
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
        unit = weights * (scale / total.to(weights.device).clamp(min=torch.finfo(weights.dtype).tiny))
        importance = self._importance(inputs)
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
            )
            given = {name: value for name, value in inputs.items() if name not in _NOT_FOR_THE_MODEL}
            outputs = model(**given, use_cache=False, comparison=comparison)
        self._note(inputs, weights, outputs, self._mode)
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"  # type: ignore[union-attr]

    def _note(self, inputs: dict[str, Any], weights: torch.Tensor, outputs: Any, mode: str) -> None:
        """Add to what will be logged, without a wait for the device."""
        chosen = weights[scored(inputs["labels"])].double()
        tokens = inputs["attention_mask"].sum() if "attention_mask" in inputs else inputs["input_ids"].numel()
        path = outputs.path if outputs.path is not None else chosen.new_zeros(1)
        sums = torch.stack(
            [
                (chosen * outputs.divergence).sum(),
                (chosen * outputs.nll).sum(),
                chosen.sum(),
                path.double().sum(),
                self._count_pairs(inputs).to(chosen.device).double(),
                torch.as_tensor(tokens, device=chosen.device).double(),
            ]
        )
        before = self._sums[mode]
        self._sums[mode] = sums if before is None else before + sums

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        mode = self._mode
        if (sums := self._sums[mode]) is not None:
            self._sums[mode] = None
            if self.accelerator.num_processes > 1:
                sums = self.accelerator.gather(sums.unsqueeze(0)).sum(dim=0)
            kl, ce, weight, path, pairs, tokens = sums.tolist()
            metrics = self._metrics[mode]
            metrics["kl"], metrics["ce"] = [kl / max(weight, 1e-9)], [ce / max(weight, 1e-9)]
            if self.args.path_weight > 0:
                metrics["path"] = [path / max(pairs, 1)]
            if mode == "train":
                self._total_train_tokens += int(tokens)
            metrics["num_tokens"] = [self._total_train_tokens]
        super().log(logs, start_time)

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[torch.Tensor | None, None, None]:
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs).detach(), None, None
