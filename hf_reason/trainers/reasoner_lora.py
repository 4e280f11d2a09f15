"""LoRA on the layers that reason: `CoTSFTTrainer` that chooses them, and proves that nothing else moved."""

import copy
import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from trl import SFTConfig

from hf_reason.models.base_weights import base_fingerprint, trained_base_weights
from hf_reason.models.layer_selection import LayerStack, parse_layers, reasoning_stack
from hf_reason.models.peft_adapters import check_base
from hf_reason.text.spans import encode

from .adapters import load_model
from .arguments import check_data, check_positions, named_arguments, own_arguments
from .cot_data import is_record_dataset
from .cot_sft import CoTSFTTrainer
from .launch import reads_on_first_alone
from .layer_ranking import choose, format_ranking, rank_layers, save_ranking, saved_layers
from .reasoner_lora_config import ReasonerLoRAConfig
from .untouched_base import moves_base

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


class ReasonerLoRATrainer(CoTSFTTrainer):
    """`CoTSFTTrainer` that trains a LoRA on the reasoner's layers only.

    Of a StepReasoner they are its reasoner, of a decoder-only model those that `reasoner_layers` names or a ranking
    finds (`hf_reason.trainers.layer_ranking`; it is printed and kept in `output_dir`, as JSON and as a plot). Before
    training it prints what is trainable; after training the base's weights are hashed again and compared. The hash
    is saved beside each adapter (`base_model.json`), so that `hf_reason.load_adapters` refuses another base.

    Args:
        model: The base model or its name; 4 bit (QLoRA) or not.
        args: The configuration.
        data_collator: As in `CoTSFTTrainer`, and so are `train_dataset`, `eval_dataset`, `processing_class` and
            `others`.
        peft_config: Rank, targets, rsLoRA, DoRA, ...; the layers are filled in. Default: PEFT's LoRA of rank 16.
        **kwargs: Everything else that `CoTSFTTrainer` accepts.

    Raises:
        ValueError: if a layer does not exist, the model carries an adapter already, the config is no LoRA's or names
            layers itself, or (`train`) if a weight of the base has moved.
    """

    _tag_names = ["trl", "sft", "hf_reason", "lora"]
    _name = "Reasoner-LoRA"
    _config_class = ReasonerLoRAConfig
    args: ReasonerLoRAConfig  # type: ignore[assignment]
    base: dict[str, Any]

    def __init__(
        self,
        model: "str | PreTrainedModel",
        args: SFTConfig | None = None,
        data_collator: Any = None,
        train_dataset: "Dataset | IterableDataset | None" = None,
        eval_dataset: Any = None,
        processing_class: "PreTrainedTokenizerBase | None" = None,
        *others: Any,
        peft_config: "LoraConfig | None" = None,
        **kwargs: Any,
    ):
        check_positions(data_collator)
        check_data(train_dataset, "train")
        own = own_arguments(args, ReasonerLoRAConfig, model, self._name)
        kwargs = named_arguments(others, kwargs)
        peft_config = kwargs.pop("peft_config", peft_config)
        if isinstance(model, str):
            model = load_model(model, own, kwargs)
        if hasattr(model, "peft_config"):
            raise ValueError(
                "The model carries an adapter already. Merge it first (merge_and_unload), or train it further with "
                "CoTSFTTrainer."
            )
        self.stack = reasoning_stack(model)
        config = _lora_config(peft_config, self.stack, model)
        self._ranking_input = (train_dataset, processing_class, kwargs.get("instructions"))
        self.reasoner_layers = self._choose_layers(model, own, config)
        config.layers_to_transform, config.layers_pattern = self.reasoner_layers, self.stack.pattern
        del self._ranking_input
        super().__init__(
            model, own, data_collator, train_dataset, eval_dataset, processing_class, peft_config=config, **kwargs
        )
        self._check_reach()
        if self.is_world_process_zero():
            print(self.describe_trainable())

    def _check_reach(self) -> None:
        """Refuse an adapter that reaches beyond the layers, which no setting that is known does.

        Raises:
            ValueError: if a weight of the base or of another layer would be trained.
        """
        unwrapped: Any = self.accelerator.unwrap_model(self.model)
        if base_fingerprint(unwrapped)["hash"] != self.base["hash"]:
            raise ValueError("This peft_config changes the base's weights before training. Use CoTSFTTrainer with it.")
        inside = tuple(f"base_model.model.{self.stack.names[layer]}." for layer in self.reasoner_layers)
        outside = [n for n, p in unwrapped.named_parameters() if p.requires_grad and not n.startswith(inside)]
        outside += trained_base_weights(unwrapped)
        if outside:
            raise ValueError(
                f"This peft_config trains {len(outside)} weights outside the chosen layers, such as {outside[0]}. "
                "Name target_modules that the layers hold, or use CoTSFTTrainer with it."
            )

    def _choose_layers(self, model: Any, args: ReasonerLoRAConfig, config: "LoraConfig") -> list[int]:
        everything = list(range(len(self.stack.layers)))
        if args.reasoner_layers == "all" or (args.reasoner_layers == "auto" and self.stack.pattern == "reasoner"):
            return everything
        if args.reasoner_layers != "auto":
            return parse_layers(args.reasoner_layers, len(everything), self.stack.names, "reasoner_layers")
        settings = {
            "records": args.ranking_records,
            "ratio": args.reasoner_ratio,
            "seed": args.seed,
            "rank": config.r,
            "targets": sorted(config.target_modules or ()),
            "base": base_fingerprint(model)["hash"],
        }
        before = saved_layers(str(args.output_dir), settings)
        if before is not None:
            return before
        return self._rank(model, args, config, settings)

    def _rank(self, model: Any, args: ReasonerLoRAConfig, config: "LoraConfig", settings: dict[str, Any]) -> list[int]:
        from tqdm.auto import tqdm

        if args.deepspeed_plugin is not None and args.deepspeed_plugin.zero_stage == 3:
            raise ValueError("reasoner_layers='auto' reads the whole model, which ZeRO-3 has cut: name the layers.")
        if reads_on_first_alone():
            raise ValueError(
                "reasoner_layers='auto' reads the whole model, which fsdp_cpu_ram_efficient_loading gives to one "
                "process alone: set it to false, or name the layers."
            )
        records, tokenizer, instructions = self._ranking_input
        if records is None or hasattr(records, "_ex_iterable") or not is_record_dataset(records.column_names):
            raise ValueError(
                "reasoner_layers='auto' ranks the layers on records: pass a data set of them without streaming=True, "
                "or name layers."
            )
        if tokenizer is None:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(model.config.name_or_path)
        chosen = records.shuffle(seed=args.seed).select(range(min(args.ranking_records, len(records))))
        examples: Any = [encode(record, tokenizer, instructions=instructions) for record in chosen]
        if args.max_length is not None:
            examples = [example for example in examples if len(example["input_ids"]) <= args.max_length]
        if not hasattr(model, "hf_device_map") and not getattr(model, "is_quantized", False):
            model.to(args.device)
        ranking = rank_layers(
            model,
            self.stack,
            examples,
            config,
            device=model.device,
            process_index=args.process_index,
            num_processes=args.world_size,
            progress=lambda items: tqdm(items, desc="Ranking layers", disable=args.disable_tqdm),
        )
        layers = choose(ranking, args.reasoner_ratio)
        if args.process_index == 0:
            print(f"Layers ranked by the Fisher information of the thoughts ({len(examples)} records):")
            print(format_ranking(ranking, layers))
            save_ranking(str(args.output_dir), ranking, layers, settings)
        return layers

    def describe_trainable(self) -> str:
        """One line: how many parameters are trained, and in which layers."""
        trained = total = 0
        for parameter in self.model.parameters():  # type: ignore[union-attr]
            count = getattr(parameter, "ds_numel", parameter.numel())
            # a 4-bit weight holds two values a byte
            total += 2 * count if hasattr(parameter, "quant_state") else count
            trained += count if parameter.requires_grad else 0
        layers = ", ".join(map(str, self.reasoner_layers))
        return (
            f"Trainable: {trained:,} of {total:,} parameters ({trained / total:.2%}), LoRA in {self.stack.name} "
            f"{layers} ({len(self.reasoner_layers)} of {len(self.stack.layers)} layers). Base: {self.base['hash']}"
        )

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(resume_from_checkpoint, str):
            check_base(resume_from_checkpoint, self.model, self.base)
        result = super().train(resume_from_checkpoint, *args, **kwargs)
        self.check_base_unmoved()
        return result

    def check_base_unmoved(self) -> None:
        """Compare the base's weights with those at the start.

        Raises:
            ValueError: if one has moved.
        """
        unwrapped: Any = self.accelerator.unwrap_model(self.model)
        now = base_fingerprint(unwrapped)["hash"]  # under FSDP2 by all processes together
        # with FSDP's cpu_ram_efficient_loading only the first has read the weights at the start
        if now != self.base["hash"] and (self.is_world_process_zero() or not self.is_fsdp_enabled):
            raise ValueError(
                f"A weight of the base model moved in training ({self.base['hash']} before, {now} after). The adapter "
                "does not belong to the base any more: look for code that changes weights outside the optimizer."
            )
        if self.is_world_process_zero():
            print(f"No weight of the base model moved ({now}).")


def _lora_config(given: "LoraConfig | None", stack: LayerStack, model: Any) -> "LoraConfig":
    """A copy of the user's config with its targets as a list of names, which is what PEFT accepts beside layers."""
    from peft import LoraConfig
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as DEFAULTS

    config = copy.deepcopy(given) if given is not None else LoraConfig(r=16, lora_alpha=32, task_type="CAUSAL_LM")
    if not isinstance(config, LoraConfig):
        raise ValueError(f"ReasonerLoRATrainer trains a LoRA; peft_config is a {type(config).__name__}.")
    if config.layers_to_transform is not None or config.layers_pattern:
        raise ValueError("Name the layers in reasoner_layers, not in peft_config (layers_to_transform).")
    setting = moves_base(config)
    if setting is None and config.target_parameters:
        setting = f"target_parameters={config.target_parameters}"
    if setting is not None:
        raise ValueError(
            f"{setting} changes weights outside the reasoner's LoRA. Leave it out, or use CoTSFTTrainer with this "
            "peft_config."
        )
    targets: Any = config.target_modules
    if isinstance(targets, str) and targets in stack.linear_names():
        targets = [targets]  # TRL's ModelConfig makes a text of a list of one name
    if isinstance(targets, str) and targets != "all-linear":
        raise ValueError(
            f"target_modules={targets!r} is a pattern, which PEFT does not accept beside layers. Give names, such as "
            f"{', '.join(stack.linear_names())}, or 'all-linear'."
        )
    if isinstance(targets, list | set | tuple):
        _refuse_elsewhere(targets, stack, model)
    if targets is None:
        targets = DEFAULTS.get(model.config.model_type) or "all-linear"
    config.target_modules = sorted(stack.linear_names() if targets == "all-linear" else targets)
    config.exclude_modules = _with_elsewhere(config.exclude_modules, stack)
    return config


def _refuse_elsewhere(targets: Iterable[str], stack: LayerStack, model: Any) -> None:
    """Refuse names that only modules outside the layers have, such as `embed_tokens`, which would get no LoRA."""
    layers = tuple(f"{name}." for name in stack.names)
    for target in targets:
        found = [name for name, _ in model.named_modules() if f".{name}".endswith(f".{target}")]
        if found and not any(name.startswith(layers) for name in found):
            raise ValueError(
                f"target_modules names {target!r}, which is outside the layers ({found[0]}). Leave it out, or use "
                "CoTSFTTrainer with this peft_config."
            )


def _with_elsewhere(excluded: Any, stack: LayerStack) -> str:
    """The user's `exclude_modules` and everything outside the stack, as one pattern."""
    if isinstance(excluded, str):
        return f"{stack.elsewhere}|{excluded}"
    return "|".join([stack.elsewhere, *(rf"(?:.*\.)?{re.escape(name)}" for name in excluded or ())])
