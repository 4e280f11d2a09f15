"""Supervised fine-tuning on chains of thought: TRL's `SFTTrainer` that knows thoughts, steps and answers."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import DistributedType
from trl import SFTTrainer
from trl.data_utils import get_dataset_column_names

from hf_reason.losses import token_weights
from hf_reason.models.peft_adapters import base_fingerprint, write_base
from hf_reason.text import spans
from hf_reason.text.collator import CoTCollator
from hf_reason.text.instructions import check_instructions, save_instructions
from hf_reason.text.spans import ADDED_COLUMNS, ANSWER, IGNORE_INDEX, SPAN_COLUMNS
from hf_reason.text.tokens import align_generation_config, end_token_id, ensure_pad_token, fit_embeddings
from hf_reason.trainers.loss_terms.mixup import Mix, draw_mix
from hf_reason.trainers.loss_terms.tasks import TaskTable, parse_tasks
from hf_reason.trainers.optim.muon import MuonFactory
from hf_reason.trainers.sampling.domains import DomainPlan
from hf_reason.trainers.sampling.order import lengths, plan_of, staged_sampler
from hf_reason.trainers.sampling.samplers import LengthGroupedSampler

from .cot_data import TOKEN_COLUMNS, AddedColumns, encode_records, is_record_dataset, limit_length, pack_rows
from .cot_sft_config import CoTSFTConfig
from .fused_forward import FusedModel, TokenLoss
from .routed import RoutedTrainerMixin, loar_of

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

# Heads that scale or cap their logits: the smoothing term below assumes that logits are `hidden @ weight`.
_SCALED_HEADS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier")


# One of these columns, or the text column, makes a data set one of TRL's formats.
_TRL_COLUMNS = {"prompt", "messages", "conversations", "input_ids"}


class CoTSFTTrainer(RoutedTrainerMixin, SFTTrainer):
    """`trl.SFTTrainer` for reasoning records.

    It takes data sets of records (`context`, `task`, `steps`, `answer`, `domain`; see `hf_reason.data`), builds
    prompts with `hf_reason.text`, and weights thought, answer and steps through TRL's fused log-probabilities, so
    no `[batch, time, vocabulary]` tensor is built. Data sets in TRL's own formats are trained as `SFTTrainer` does.
    With all weights at their defaults the loss is `SFTTrainer`'s.

    Args:
        model: A model or its name, as in `SFTTrainer`.
        args: The configuration; default `CoTSFTConfig`.
        train_dataset: Records, or any format of TRL's.
        eval_dataset: The same, or a dictionary of them.
        processing_class: The tokenizer. A missing or unsafe pad token is replaced (see `ensure_pad_token`).
        instructions: Template of each domain (`hf_reason.text.render`); saved beside the model.
        generation_eval: Called as `generation_eval(model)` at each evaluation; the numbers it returns are logged as
            `eval_<name>`, so that `metric_for_best_model` can name them. `hf_reason.evaluation.evaluate_model`
            inside a lambda is the usual one.
        **kwargs: Everything else `SFTTrainer` takes.

    Raises:
        ValueError: if the chat template loses the problem or the thought, if an example does not end in the
            end-of-turn token, or if options exclude each other.
    """

    _tag_names = ["trl", "sft", "hf_reason"]
    _name = "CoT-SFT"
    # The loss divides by the sum of weights over the whole accumulated batch, not by the Trainer's step count.
    loss_is_scaled_for_ga: Any = True
    args: CoTSFTConfig  # type: ignore[assignment]
    _added_columns: tuple[str, ...] = ()
    _domain_plan: DomainPlan | None = None
    _task_table: TaskTable | None = None
    base: dict[str, Any] | None = None  # of an adapter: which weights it belongs to
    _mixed: tuple[int, int] = (0, 0)  # the step, and how many of its batches have been mixed

    def __init__(
        self,
        model: "str | PreTrainedModel",
        args: CoTSFTConfig | None = None,
        train_dataset: "Dataset | IterableDataset | None" = None,
        eval_dataset: Any = None,
        processing_class: "PreTrainedTokenizerBase | None" = None,
        *,
        instructions: Mapping[str, str] | None = None,
        generation_eval: "Callable[[PreTrainedModel], dict[str, float]] | None" = None,
        **kwargs: Any,
    ):
        if args is None:
            name = model if isinstance(model, str) else model.config.name_or_path or "model"
            args = CoTSFTConfig(f"{name.split('/')[-1]}-CoT-SFT")
        self.instructions = check_instructions(instructions or {})
        self.generation_eval = generation_eval
        self.model_card: str | None = None
        self.length_reports: dict[str, Any] = {}
        self._first_batch_checked = False
        if processing_class is None:
            from transformers import AutoTokenizer

            # here and not in SFTTrainer, which would take the EOS for a missing pad token
            source = model if isinstance(model, str) else model.config.name_or_path
            processing_class = AutoTokenizer.from_pretrained(source, trust_remote_code=args.trust_remote_code)
        ensure_pad_token(processing_class)
        if not isinstance(model, str):
            fit_embeddings(model, processing_class)
        if args.muon_learning_rate is not None:
            kwargs.setdefault("optimizer_cls_and_kwargs", self._muon(args))
        loar = None if isinstance(model, str) else loar_of(model)
        by_task = loar is not None and bool(loar.config.task_names)
        self._wants_domains = args.samples_domains or args.domain_target != "sampled" or by_task
        if args.tasks:
            self._task_table = TaskTable(parse_tasks(args.tasks), processing_class, instructions)  # type: ignore[arg-type]
        # TRL would build the full logits for smoothing, and warns so; here it is a term of the fused loss.
        self._smoothing, args.label_smoothing_factor = args.label_smoothing_factor, 0.0
        try:
            super().__init__(
                model=model,
                args=args,
                train_dataset=train_dataset,
                eval_dataset=eval_dataset,
                processing_class=processing_class,
                **kwargs,
            )
        finally:
            args.label_smoothing_factor = self._smoothing
        if isinstance(model, str):
            fit_embeddings(self.accelerator.unwrap_model(self.model), processing_class)
        if kwargs.get("data_collator") is None:
            self.data_collator = CoTCollator(
                pad_token_id=self._tokenizer.pad_token_id,
                padding_free=self.padding_free,
                return_position_ids=getattr(self.data_collator, "return_position_ids", False),
                pad_to_multiple_of=args.pad_to_multiple_of,  # type: ignore[arg-type]
            )
        base = self.accelerator.unwrap_model(self.model)
        align_generation_config(base, self._tokenizer)
        if self._smoothing > 0:
            self._check_smoothing(base)
        self._check_strategies(base)
        self._init_routing(args.mixup_alpha > 0)

    @property
    def _is_zero3(self) -> bool:
        return self.is_deepspeed_enabled and self.accelerator.state.deepspeed_plugin.zero_stage == 3

    def _check_strategies(self, model: Any) -> None:
        classifies = self._task_table is not None and len(self._task_table.choices) > 1
        if classifies and self._is_zero3:
            raise ValueError("Classification tasks need rows of the LM head: use ZeRO-2, FSDP or DDP.")
        if self.args.mixup_alpha > 0 and model.config.model_type == "step_reasoner":
            raise ValueError("MixUp does not go with StepReasoner: two chains have their steps at different places.")

    def _muon(self, args: CoTSFTConfig) -> tuple[type[MuonFactory], dict[str, Any]]:
        if args.distributed_state.distributed_type not in (
            DistributedType.NO,
            DistributedType.MULTI_CPU,
            DistributedType.MULTI_GPU,
            DistributedType.MULTI_XPU,
            DistributedType.MULTI_NPU,
        ):
            raise ValueError("Muon needs whole matrices: use DDP or one process, or unset muon_learning_rate.")
        return MuonFactory, {
            "muon_learning_rate": args.muon_learning_rate,
            "learning_rate": args.learning_rate,
            "betas": (args.adam_beta1, args.adam_beta2),
            "weight_decay": args.weight_decay,
        }

    def _check_smoothing(self, model: "PreTrainedModel") -> None:
        config = model.config.get_text_config()
        scaled = [name for name in _SCALED_HEADS if getattr(config, name, None) not in (None, 1.0)]
        if scaled:
            raise ValueError(f"label_smoothing_factor does not work with this model: it sets {', '.join(scaled)}.")
        if self._is_zero3:
            raise ValueError("label_smoothing_factor needs the whole LM head: use ZeRO-2, FSDP or DDP.")

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: Any, packing: bool, formatting_func: Any, dataset_name: str
    ) -> Any:
        columns = get_dataset_column_names(dataset)
        if "input_ids" in columns and set(SPAN_COLUMNS) <= set(columns):
            return dataset  # prepared here before
        trl_format = {*_TRL_COLUMNS, args.dataset_text_field} & set(columns)
        if formatting_func is None and not trl_format and not is_record_dataset(columns):
            raise ValueError(
                f"The {dataset_name} data set has columns {columns}: neither records (context, steps, answer) nor one "
                "of TRL's formats. Convert it with hf_reason.data.prepare or recipes/prepare_data.py."
            )
        if formatting_func is not None or not is_record_dataset(columns):
            logger.info("%s data set: not records, trained as trl.SFTTrainer does", dataset_name)
            if args.is_weighted:
                raise ValueError(
                    f"The {dataset_name} data set has columns {columns}, not those of records, so there are no steps, "
                    "tasks or domains to weight. Convert it with hf_reason.data.prepare, or leave the weights at 1."
                )
            return super()._prepare_dataset(dataset, processing_class, args, packing, formatting_func, dataset_name)
        spans.check_round_trip(self._tokenizer)
        is_map = not hasattr(dataset, "_ex_iterable")
        if not is_map and (self._wants_domains or args.curriculum):
            raise ValueError(
                f"The {dataset_name} data set is streamed; domain shares and a curriculum choose among all examples. "
                "Load it without streaming=True."
            )
        added = AddedColumns(self._wants_domains, self._task_table)

        def options(what: str) -> dict[str, Any]:
            return {"num_proc": args.dataset_num_proc, "desc": f"{what} {dataset_name} data set"} if is_map else {}

        with args.main_process_first(desc="preparing the data set"):
            records = dataset
            dataset = encode_records(dataset, self._tokenizer, self.instructions, options("Encoding"), added)
            dataset = self._add_columns(dataset, records, dataset_name, args, options("Preparing"))
            if args.max_length is not None:
                dataset, report = limit_length(
                    dataset,
                    args.max_length,
                    args.overlong,
                    dataset_name,
                    options("Limiting"),
                    self._tokenizer,
                    args.overlap_steps,
                )
                if report is not None:
                    self.length_reports[dataset_name] = report
                    if report.overlong:
                        outcome = report.outcome(args.overlong)
                        logger.warning(
                            "%s data set: %s, max_length=%d: %s", dataset_name, report, args.max_length, outcome
                        )
            elif packing:
                raise ValueError("Packing needs a max_length: the length of a packed row.")
            if packing:
                dataset = dataset.select_columns([*TOKEN_COLUMNS, *self._added_columns, *added.names])
                seed = args.seed if args.shuffle_dataset else None
                by_domain = self._wants_domains and dataset_name == "train"
                dataset = pack_rows(
                    dataset, args.max_length, args.packing_strategy, seed, by_domain, options("Packing")
                )
            if args.shuffle_dataset:
                dataset = dataset.shuffle(seed=args.seed)
        if self._wants_domains and dataset_name == "train":
            self._domain_plan = plan_of(dataset, args)
            logger.warning("domains: %s", self._domain_plan)
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: Any = self._signature_columns
        names = dict.fromkeys([*columns, *SPAN_COLUMNS, *self._added_columns, *ADDED_COLUMNS])
        self._signature_columns = list(names)  # type: ignore[assignment]

    def _add_columns(
        self, encoded: Any, records: Any, dataset_name: str, args: Any, map_kwargs: dict[str, Any]
    ) -> Any:
        """For subclasses: columns with one value a token (`_added_columns`), which limiting and packing keep."""
        return encoded

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        if self.args.samples_domains or self.args.curriculum:
            return staged_sampler(dataset, self.args, self._domain_plan if self.args.samples_domains else None)
        if self.args.train_sampling_strategy != "group_by_length" or not hasattr(dataset, "with_format"):
            return super()._get_train_sampler(train_dataset)
        batch_size = self.args.train_batch_size * self.args.world_size
        return LengthGroupedSampler(lengths(dataset), batch_size, self.args.seed)

    def _weights(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Weights of the targets, `(batch, time - 1)`; `None` where the loss is TRL's plain mean."""
        if not self.args.is_weighted or SPAN_COLUMNS[0] not in batch:
            return None
        weights = token_weights(
            batch["labels"],
            batch["segment_ids"],
            batch["step_ids"],
            thought_weight=self.args.thought_weight,
            answer_weight=self.args.answer_weight,
            step_weighting=self.args.step_weighting,
        )[:, 1:]
        if self._task_table is not None and spans.TASK_IDS in batch:
            table = torch.tensor(self._task_table.weights, device=weights.device)
            weights = weights * table[batch[spans.TASK_IDS][:, 1:]]
        return weights

    def _importance(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Importance weights of the targets, `(batch, time - 1)`, which no divisor contains; `None`: all are 1."""
        plan, ids = self._domain_plan, batch.get(spans.DOMAIN_IDS)
        if plan is None or ids is None or self.args.domain_target == "sampled" or not self.model.training:  # type: ignore[union-attr]
            return None
        table = torch.zeros(max(plan.weights) + 1, device=ids.device)
        for key, weight in plan.weights.items():
            table[key] = weight
        return table[ids[:, 1:].clamp(max=len(table) - 1)]

    def _mix(self, batch: Mapping[str, torch.Tensor]) -> Mix | None:
        """MixUp of a training batch; the draw depends on the step, the batch and the process alone."""
        if self.args.mixup_alpha == 0 or not self.model.training or batch["labels"].shape[0] < 2:  # type: ignore[union-attr]
            return None
        step = self.state.global_step
        self._mixed = (step, self._mixed[1] + 1 if self._mixed[0] == step else 0)
        seed = f"{self.args.seed} {step} {self._mixed[1]} {self.args.process_index}"
        return draw_mix(batch, self.args.mixup_alpha, seed)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | int | None:
        # The divisor of a weighted mean is the sum of weights over all micro-batches and processes.
        weights = [self._weights(batch) for batch in batch_samples]
        if not weights or weights[0] is None:
            return super()._get_num_items_in_batch(batch_samples, device)
        total = torch.stack([weight.sum() for weight in weights if weight is not None]).sum().to(device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            total = self.accelerator.gather(total).sum()
        return total / (self.get_tp_size() * self.get_cp_size() * self.get_sp_size())

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        if not self._first_batch_checked:
            self._check_first_batch(inputs)
        weights, importance, mix = self._weights(inputs), self._importance(inputs), self._mix(inputs)
        choices = None if self._task_table is None else inputs.get(spans.CHOICE_IDS)
        inputs = {name: value for name, value in inputs.items() if name not in (*SPAN_COLUMNS, *ADDED_COLUMNS)}
        if weights is None and self._smoothing == 0 and mix is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if weights is not None and num_items_in_batch is None:
            # TRL divides by the number of targets; make that the sum of weights
            targets = (inputs["labels"][:, 1:] != IGNORE_INDEX).sum()
            weights = weights * (targets / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny))
        if weights is not None and num_items_in_batch is not None:
            # TRL clamps the divisor at 1; small weights may sum to less, so scale both sides.
            total = torch.as_tensor(num_items_in_batch, device=weights.device)
            num_items_in_batch = total.clamp(min=1)
            weights = weights * (num_items_in_batch / total.clamp(min=torch.finfo(weights.dtype).tiny))
        if weights is not None and importance is not None:
            weights = weights * importance
        table = self._task_table
        loss = TokenLoss(
            weights=weights,
            smoothing=self._smoothing,
            mix=mix,
            choice_ids=choices if choices is None else choices[:, 1:],
            choices=torch.tensor(table.choices) if table is not None else None,
        )
        fused = FusedModel(model, self.accelerator.unwrap_model(self.model), loss)
        result = super().compute_loss(fused, inputs, return_outputs, num_items_in_batch)
        if fused.chosen is not None:
            self._note_choices(fused.chosen)
        return result

    def _note_choices(self, chosen: torch.Tensor) -> None:
        """Log how often a classification's label is the likeliest one, given the thought before it."""
        counts = torch.tensor([int(chosen.sum()), chosen.numel()], device=chosen.device)
        right, total = self.accelerator.gather_for_metrics(counts.unsqueeze(0)).sum(dim=0).tolist()
        if total:
            mode = "train" if self.model.training else "eval"  # type: ignore[union-attr]
            self._metrics[mode]["choice_accuracy"].append(right / total)

    def _check_first_batch(self, inputs: Mapping[str, Any]) -> None:
        """Every answer of the first batch must end in the end-of-turn token, or the model never learns to stop.

        Only the last piece of a split chain has one; a batch without any is passed over.
        """
        self._first_batch_checked = True
        if SPAN_COLUMNS[0] not in inputs or self.args.overlong == "truncate":
            return
        labels, answer = inputs["labels"], inputs["segment_ids"] == ANSWER
        self._first_batch_checked = bool(answer.any())
        followed = torch.zeros_like(answer)
        followed[:, :-1] = answer[:, 1:]
        last = labels[answer & ~followed]
        end = end_token_id(self._tokenizer)
        if (last != end).any() or IGNORE_INDEX in last:
            raise ValueError(
                f"A completion of the first batch does not end in the end-of-turn token (id {end}): "
                f"last labels {last.tolist()}. Encode records with hf_reason.text.encode and the same tokenizer."
            )

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        generate, self.generation_eval = self.generation_eval, None
        try:  # several evaluation sets come back here one by one; the generated figures belong to the whole
            metrics = super().evaluate(*args, **kwargs)
        finally:
            self.generation_eval = generate
        if generate is not None:
            prefix = kwargs.get("metric_key_prefix", "eval")
            generated = generate(self.accelerator.unwrap_model(self.model))
            generated = {f"{prefix}_{name}": value for name, value in generated.items()}
            metrics.update(generated)
            # Not through `self.log`: the averages of the loss evaluation have been logged and cleared there.
            super(SFTTrainer, self).log(dict(generated))
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        folder = output_dir or str(self.args.output_dir)
        if self.instructions:
            save_instructions(folder, self.instructions)
        unwrapped: Any = self.accelerator.unwrap_model(self.model)
        if hasattr(unwrapped, "peft_config"):
            self.base = self.base or base_fingerprint(unwrapped)
            write_base(folder, self.base)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        if self.model_card is None:
            super().create_model_card(*args, **kwargs)
        elif self.is_world_process_zero():
            Path(str(self.args.output_dir), "README.md").write_text(self.model_card, encoding="utf-8")
