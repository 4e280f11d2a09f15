"""Supervised fine-tuning on chains of thought: TRL's `SFTTrainer` that knows thoughts, steps and answers."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from trl import SFTConfig
from trl.data_utils import get_dataset_column_names

from hf_reason.data.images import has_image_column
from hf_reason.models.savable_generation import make_generation_config_savable
from hf_reason.text.collator import IMAGE_COLUMNS, CoTCollator, ImageCollator
from hf_reason.text.instructions import check_instructions
from hf_reason.text.modes import add_thinking_switch
from hf_reason.text.spans import ADDED_COLUMNS, DOMAIN_IDS, SPAN_COLUMNS
from hf_reason.text.tokens import align_generation_config, end_token_id, fit_tokens
from hf_reason.trainers.loss_terms.base import Moment
from hf_reason.trainers.loss_terms.tasks import TaskTable, parse_tasks
from hf_reason.trainers.loss_terms.terms import LossTerms
from hf_reason.trainers.optim.muon import muon_of
from hf_reason.trainers.sampling.choice import TrainOrder

from .adapters import begin_adapters, check_adapters, load_model
from .arguments import check_collator, check_data, check_positions, check_rows, named_arguments, own_arguments
from .checkpoints import CheckpointTrainer
from .cot_data import UNSOLVED, AddedColumns, RecordPreparation, format_of, is_record_dataset, refuse_for_records
from .cot_sft_config import CoTSFTConfig
from .first_batch import check_ends
from .fused_forward import FusedModel
from .generated_figures import GeneratedEvaluation, GeneratedFigures
from .image_data import has_images_in_it, with_hidden_images, without_images
from .packing import PackingCheck
from .positions import positions_of
from .routed import Routing
from .vision import check_options, has_images, processor_for, tokenizer_of

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class CoTSFTTrainer(GeneratedEvaluation, CheckpointTrainer):
    """`trl.SFTTrainer` for reasoning records.

    It accepts data sets of records (`context`, `task`, `steps`, `answer`, `domain`; see `hf_reason.data`), builds
    prompts with `hf_reason.text`, and weights thought, answer and steps through TRL's fused log-probabilities, so
    no `[batch, time, vocabulary]` tensor is built. Data sets in TRL's own formats are trained as `SFTTrainer` does.
    With all weights at their defaults the loss is `SFTTrainer`'s. Positional arguments are in `SFTTrainer`'s order.

    Args:
        model: A model or its name, as in `SFTTrainer`.
        args: The configuration, which is copied; default `CoTSFTConfig`. An `SFTConfig` is converted.
        data_collator: As in `SFTTrainer`; refused where the settings need columns that it would drop.
        train_dataset: Records, or any format of TRL's.
        eval_dataset: The same, or a dictionary of them.
        processing_class: The tokenizer, or the processor of a vision-language model. A missing or unsafe pad token is
            replaced (see `ensure_pad_token`).
        *others: `SFTTrainer`'s further arguments by position: `compute_loss_func`, `compute_metrics`, `callbacks`, ...
        instructions: Template of each domain (`hf_reason.text.render`); saved beside the model.
        generation_eval: Called as `generation_eval(model)` at each evaluation; the numbers it returns are logged as
            `eval_<name>` and given to callbacks, so that `metric_for_best_model` and early stopping can name them.
            `hf_reason.evaluation.evaluate_model` inside a lambda is the usual one.
        **kwargs: `SFTTrainer`'s further arguments by name.

    Raises:
        TypeError: if a data set is passed as third positional argument, or `args` cannot be converted.
        ValueError: if the chat template loses the problem or the thought, if an example does not end in the
            end-of-turn token, or if options exclude each other.
    """

    _tag_names = ["trl", "sft", "hf_reason"]
    _name = "CoT-SFT"
    _config_class: ClassVar[type[SFTConfig]] = CoTSFTConfig
    # The loss divides by the sum of weights over the whole accumulated batch, not by the Trainer's step count.
    loss_is_scaled_for_ga: Any = True
    args: CoTSFTConfig  # type: ignore[assignment]
    _linked_columns: tuple[str, ...] = ()  # columns with one value a token that a subclass adds
    _read_columns: tuple[str, ...] = ()  # of `ADDED_COLUMNS`, those that a subclass reads
    _has_teacher: ClassVar[bool] = False

    def __init__(
        self,
        model: "str | PreTrainedModel",
        args: SFTConfig | None = None,
        data_collator: Callable[[list[Any]], dict[str, Any]] | None = None,
        train_dataset: "Dataset | IterableDataset | None" = None,
        eval_dataset: Any = None,
        processing_class: "PreTrainedTokenizerBase | None" = None,
        *others: Any,
        instructions: Mapping[str, str] | None = None,
        generation_eval: "Callable[[PreTrainedModel], dict[str, float]] | None" = None,
        **kwargs: Any,
    ):
        check_positions(data_collator)
        check_data(train_dataset, "train")
        own: Any = own_arguments(args, self._config_class, model, self._name)
        kwargs = named_arguments(others, kwargs)
        columns = [] if train_dataset is None else get_dataset_column_names(train_dataset)
        pictures = False
        if is_record_dataset(columns) and has_image_column(columns):
            pictures = has_images_in_it(train_dataset, columns)
            hide: Any = with_hidden_images if pictures else without_images
            train_dataset = hide(train_dataset, columns)
        if pictures:
            check_options(
                own, teacher=self._has_teacher, collator=data_collator, formatting_func=kwargs.get("formatting_func")
            )
            processing_class = processor_for(model, processing_class, own.trust_remote_code)
        if processing_class is None:
            from transformers import AutoTokenizer

            # here and not in SFTTrainer, which would use the EOS for a missing pad token
            source = model if isinstance(model, str) else model.config.name_or_path
            processing_class = AutoTokenizer.from_pretrained(source, trust_remote_code=own.trust_remote_code)
        tokenizer = tokenizer_of(processing_class)
        if own.add_thinking_switch:
            add_thinking_switch(processing_class)
        if is_record_dataset(columns) and kwargs.get("formatting_func") is None:
            refuse_for_records(own)
        images = has_images(columns, processing_class, own, teacher=self._has_teacher)
        if isinstance(model, str):
            model = load_model(model, own, kwargs)
        assert not isinstance(model, str)
        self._positions = positions_of(model)
        own.max_length = self._positions.cap(own.max_length)
        self.base = check_adapters(model, kwargs.get("peft_config"), own)
        has_adapter = kwargs.get("peft_config") is not None or hasattr(model, "peft_config")
        fit_tokens(model, tokenizer, adapter=has_adapter)
        self.instructions = check_instructions(instructions or {})
        tasks = TaskTable(parse_tasks(own.tasks), tokenizer, instructions) if own.tasks else None
        self.loss_terms = LossTerms(own, tasks)
        self.order = TrainOrder(own)
        self.routing = Routing(model)
        self.generated = GeneratedFigures(generation_eval)
        self.model_card: str | None = None
        self._first_batch_checked = own.overlong == "truncate"  # which may cut the end-of-turn token off
        self._check_given(own, data_collator, kwargs)
        read = (*self.loss_terms.columns, *self.order.columns, *self.routing.columns, *self._read_columns)
        wants_domains = DOMAIN_IDS in read
        added = AddedColumns(wants_domains, tasks, self.order.rates)
        self._preparation = RecordPreparation(
            tokenizer,
            self.instructions,
            added,
            self._link,
            self._linked_columns,
            processing_class if pictures else None,
        )
        if kwargs.get("optimizer_cls_and_kwargs") is None:
            kwargs["optimizer_cls_and_kwargs"] = muon_of(own)
        # TRL would build the full logits for smoothing, and warns so; here it is a term of the fused loss.
        own.label_smoothing_factor = 0.0
        super().__init__(model, own, data_collator, train_dataset, eval_dataset, processing_class, **kwargs)
        self.args.label_smoothing_factor = self.loss_terms.smoothing.factor
        unwrapped = self._unwrapped()
        if data_collator is None and not images:
            make: Any = partial(ImageCollator, processor=processing_class) if pictures else CoTCollator
            self.data_collator = make(
                pad_token_id=self._tokenizer.pad_token_id,
                padding_free=self.padding_free,
                return_position_ids=getattr(self.data_collator, "return_position_ids", False),
                pad_to_multiple_of=own.pad_to_multiple_of,
            )
        align_generation_config(unwrapped, self._tokenizer)
        make_generation_config_savable(unwrapped)
        is_zero3 = self.is_deepspeed_enabled and self.accelerator.state.deepspeed_plugin.zero_stage == 3
        self.loss_terms.check(unwrapped, is_zero3=is_zero3)
        self.routing.attach(self)
        for callback in begin_adapters(unwrapped):
            self.add_callback(callback)
        self._packing = None
        if self.padding_free:
            rows: Any = self.train_dataset
            self._packing = PackingCheck(rows, self.data_collator, self.compute_loss_context_manager)
            self._packing.try_now(unwrapped, self.accelerator.device)

    def _check_given(self, args: Any, data_collator: Any, given: Mapping[str, Any]) -> None:
        """Refuse arguments that exclude each other, before anything is loaded."""
        check_collator(data_collator, (*self.loss_terms.columns, *self.order.columns, *self.routing.columns))
        self._foreign_collator = data_collator is not None and not isinstance(data_collator, CoTCollator)
        changed = args.is_weighted or args.label_smoothing_factor > 0 or args.mixup_alpha > 0
        if given.get("compute_loss_func") is not None and changed:
            raise ValueError(
                "compute_loss_func replaces the loss that weights, tasks, label_smoothing_factor and mixup_alpha "
                "belong to. Leave it out, or leave those at their defaults."
            )

    @property
    def length_reports(self) -> dict[str, Any]:
        """What `max_length` did to each data set, by its name."""
        return self._preparation.reports

    @property
    def _moment(self) -> Moment:
        return Moment(self.model.training, self.state.global_step)  # type: ignore[union-attr]

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: Any, packing: bool, formatting_func: Any, dataset_name: str
    ) -> Any:
        check_data(dataset, dataset_name)
        form = format_of(get_dataset_column_names(dataset), dataset_name, args, formatting_func)
        rows: Any = dataset
        if form == "records":
            rows = self.order.take_rates(
                self._preparation(dataset, dataset_name, args, packing), UNSOLVED, dataset_name
            )
        elif form == "trl":
            rows = super()._prepare_dataset(dataset, processing_class, args, packing, formatting_func, dataset_name)
        check_rows(rows, dataset_name, args)
        self._positions.check(rows, dataset_name)
        if form == "records" and self._preparation.added.domains and dataset_name == "train":
            self.loss_terms.importance.plan = self.order.prepare(rows)
        return rows

    def _link(self, rows: Any, records: Any, dataset_name: str, args: Any, map_kwargs: dict[str, Any]) -> Any:
        """For subclasses: adds `_linked_columns`."""
        return rows

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: Any = self._signature_columns
        # a collator of other columns than the model's fails on lists that it does not pad
        ours = () if self._foreign_collator else (*SPAN_COLUMNS, *ADDED_COLUMNS, *IMAGE_COLUMNS)
        names = dict.fromkeys([*columns, *ours, *self._linked_columns])
        self._signature_columns = list(names)  # type: ignore[assignment]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        sampler = self.order.sampler(self.train_dataset if train_dataset is None else train_dataset)
        return super()._get_train_sampler(train_dataset) if sampler is None else sampler

    def _prepare_inputs(self, inputs: Any) -> Any:
        return self.routing.add_prompts(super()._prepare_inputs(inputs))

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.routing.count_rows(batches, device)
        return batches, count

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | int | None:
        # The divisor of a weighted mean is the sum of weights over all micro-batches and processes.
        weights = [self.loss_terms.token_weights.of(batch) for batch in batch_samples]
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
        self._check_packing(model)
        self._check_first_batch(inputs)
        loss = self.loss_terms.prepare(inputs, self._moment, num_items_in_batch)
        inputs = {name: value for name, value in inputs.items() if name not in (*SPAN_COLUMNS, *ADDED_COLUMNS)}
        if loss.is_plain:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        fused = FusedModel(model, self._unwrapped(), loss, self.loss_terms)
        result = super().compute_loss(fused, inputs, return_outputs, loss.divisor)
        if loss.chosen is not None:
            self._note_choices(loss.chosen)
        return result

    def _note_choices(self, chosen: torch.Tensor) -> None:
        """Log how often a classification's label is the likeliest one, given the thought before it."""
        counts = torch.tensor([int(chosen.sum()), chosen.numel()], device=chosen.device)
        right, total = self.accelerator.gather_for_metrics(counts.unsqueeze(0)).sum(dim=0).tolist()
        if total:
            self._metrics["train" if self._moment.training else "eval"]["choice_accuracy"].append(right / total)

    def _check_packing(self, model: Any) -> None:
        if self._packing is not None and self._packing.is_due:
            self._packing(model, self.accelerator.device)

    def _check_first_batch(self, inputs: Mapping[str, Any]) -> None:
        if not self._first_batch_checked:
            self._first_batch_checked = check_ends(inputs, end_token_id(self._tokenizer))
