"""A further round of training on a finished model: its records, its adapter, and what it forgot."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_reason._files import write_atomically
from hf_reason.data import load_cot_sft_dataset
from hf_reason.data.replay import ReplayMix, mix_replay
from hf_reason.evaluation import evaluate_model
from hf_reason.evaluation.forgetting import Round, check_drops, format_history, load_history, round_from, save_history
from hf_reason.text import load_instructions, saved_instructions

from .models import ScratchArguments, check_model_name, load_model_and_tokenizer
from .resume import is_finished, same_settings_or_refuse
from .round_data import first_of_each, load_round_data
from .runner import TrainingRun

if TYPE_CHECKING:
    from trl import ModelConfig

    from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer

BEFORE_FILE, MERGED_FOLDER = "before.json", "base"
ADAPTERS = ("fresh", "continue", "none")


@dataclass
class ContinualArguments:
    """What a further round takes. `dataset` are the new records: a prepared folder, a Hub data set, or a raw file."""

    old_dataset: list[str] = field(metadata={"help": "Prepared folders or Hub data sets of the rounds before."})
    replay_share: float = field(
        default=0.2, metadata={"help": "Share of old records among those that are trained on."}
    )
    adapter: str = field(
        default="fresh",
        metadata={
            "help": "fresh: a new LoRA; continue: the model's own; none: all weights.",
            "choices": list(ADAPTERS),
        },
    )
    max_drop: float = field(default=5.0, metadata={"help": "Points that an old domain may lose before publishing."})
    old_domains: list[str] | None = field(
        default=None, metadata={"help": "Old domains that are replayed and watched. Default: all of old_dataset."}
    )

    def __post_init__(self) -> None:
        if isinstance(self.old_dataset, str):  # a YAML with a single name
            self.old_dataset = [self.old_dataset]
        if not 0 <= self.replay_share < 1:
            raise ValueError(f"replay_share must be at least 0 and below 1, got {self.replay_share}.")
        if self.adapter not in ADAPTERS:
            raise ValueError(f"adapter must be one of {', '.join(ADAPTERS)}, got {self.adapter!r}.")
        if self.max_drop < 0:
            raise ValueError(f"max_drop must not be negative, got {self.max_drop}.")


@dataclass
class ContinualRun(TrainingRun):
    """A round that is to be trained; see `begin_round`.

    Attributes:
        source: The model that it begins with.
        mix: Its training records, counted.
        old_domains: What it must not forget.
        max_drop: How many points of it may be lost.
        publish: Whether to push a model that passes the guard.
    """

    source: str
    mix: ReplayMix
    old_domains: tuple[str, ...]
    max_drop: float
    publish: bool

    def measure_before(self, trainer: "CoTSFTTrainer") -> None:
        """Evaluate the model on old and new domains before anything is trained; a resumed run reads the file."""
        path = Path(str(self.args.output_dir), BEFORE_FILE)
        if path.is_file():
            return
        assert self.test is not None
        results = evaluate_model(
            trainer.accelerator.unwrap_model(trainer.model),  # type: ignore[arg-type]
            trainer.processing_class,  # type: ignore[arg-type]
            list(self.test)[: self.evaluation.test_records],  # type: ignore[arg-type]
            num_samples=self.evaluation.eval_samples,
            temperature=self.evaluation.eval_temperature,
            seed=self.args.seed,
            instructions=self.instructions,
            **self.evaluation.generation(self.data.thinking),
        )
        if trainer.is_world_process_zero():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, (json.dumps(results, ensure_ascii=False, indent=2) + "\n").encode("utf-8"))

    def report(self, trainer: "CoTSFTTrainer", results: Mapping[str, Any]) -> None:
        """Write and print the history, apply the guard, and push the model if it passes and was asked for.

        Raises:
            ForgettingError: if an old domain lost more than `max_drop` points.
        """
        output = str(self.args.output_dir)
        if trainer.is_world_process_zero():
            before = json.loads(Path(output, BEFORE_FILE).read_text(encoding="utf-8"))
            past = load_history(self.source) if os.path.isdir(self.source) else []
            if not past:
                past = [round_from(Path(self.source).name, self.old_domains, before)]
            learned = set(self.mix.new) - {domain for entry in past for domain in entry.learned}
            rounds = [*past, round_from(Path(output).name, learned, results)]
            save_history(output, rounds)
            print(format_history(rounds))
        trainer.accelerator.wait_for_everyone()
        check_round(output, self.old_domains, self.max_drop)
        if self.publish:
            if trainer.is_world_process_zero():
                _note_local_base(output)
            self.args.push_to_hub = True
            trainer.push_to_hub()


def check_round(output: str, old_domains: tuple[str, ...], max_drop: float) -> None:
    """The guard on a finished round.

    Raises:
        ForgettingError: if an old domain lost more than `max_drop` points.
    """
    before = json.loads(Path(output, BEFORE_FILE).read_text(encoding="utf-8"))
    check_drops(_round(before), load_history(output)[-1], old_domains, max_drop)


def _round(results: Mapping[str, Any]) -> Round:
    return round_from("before", (), results)


def begin_round(groups: tuple[Any, ...]) -> ContinualRun | None:
    """Check the launch and the folders, and load new and old records.

    Args:
        groups: `ContinualArguments`, `DataArguments`, `EvaluationArguments`, the training arguments, `ModelConfig`.

    Returns:
        The round; `None` if it is finished, has passed the guard and needs nothing more.

    Raises:
        ValueError: if the output folder holds another run, records are missing, nothing is new, or a finished round
            does not pass the guard.
    """
    from datasets import concatenate_datasets

    from hf_reason.trainers.launch import check_world_size

    round_args, data, evaluation, args, model_args = groups
    check_world_size(data.expected_world_size)
    if model_args.model_name_or_path is None:
        raise ValueError("There is no finished model. Give model_name_or_path.")
    if data.dataset is None:
        raise ValueError("There are no new records. Give dataset: a prepared folder, a Hub data set or a raw file.")
    check_model_name(model_args.model_name_or_path)
    same_settings_or_refuse(args, *groups)
    found = load_round_data(data, round_args.old_dataset, round_args.old_domains, args)
    if is_finished(str(args.output_dir)) and load_history(str(args.output_dir)):
        check_round(str(args.output_dir), found.old_domains, round_args.max_drop)
        if args.push_to_hub and args.process_index == 0:  # refused before, and accepted now
            _push(args)
        print(f"{args.output_dir} is finished: nothing to do. Choose another output_dir, or remove it to start anew.")
        return None
    mix = mix_replay(
        found.new.select(range(min(data.max_train_records or len(found.new), len(found.new)))),
        found.old,
        round_args.replay_share,
        tests=(found.new_test, found.old_test),
        seed=args.seed,
    )
    if args.process_index == 0:
        print(mix)
    tests = [first_of_each(split, evaluation.test_records) for split in (found.old_test, found.new_test)]
    evaluation.test_records = None
    validation = None if args.eval_strategy == "no" else load_cot_sft_dataset(data.domain, "validation", found.place)
    source = model_args.model_name_or_path
    instructions = load_instructions(data.instructions) if data.instructions else saved_instructions(source)
    # nothing may be pushed before the guard has looked at it: neither checkpoints nor the saved model
    publish, args.push_to_hub = args.push_to_hub, False
    return ContinualRun(
        replace(data, dataset=found.place),
        evaluation,
        args,
        mix.records,
        validation,
        concatenate_datasets(tests),
        instructions,
        source,
        mix,
        found.old_domains,
        round_args.max_drop,
        publish,
    )


def _push(args: "CoTSFTConfig") -> None:
    """Push a finished output folder, without its checkpoints."""
    from huggingface_hub import HfApi

    output, api = Path(str(args.output_dir)), HfApi(token=args.hub_token)
    _note_local_base(output)
    name = api.create_repo(args.hub_model_id or output.name, private=args.hub_private_repo, exist_ok=True).repo_id
    api.upload_folder(repo_id=name, folder_path=output, ignore_patterns=["_*", "checkpoint-*", "*.partial", "*.tmp"])


def _note_local_base(output: str | Path) -> None:
    """Say so if an adapter that is published belongs to a base that nobody else has."""
    path = Path(output, "adapter_config.json")
    base = json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"] if path.is_file() else None
    if base and os.path.isdir(base):
        print(
            f"Note: the published adapter belongs to the base {base}, a folder of this machine. Others need it, too: "
            "publish it and write its name into adapter_config.json, or train with adapter='none'.",
            file=sys.stderr,
        )


def load_round_model(
    round_args: ContinualArguments, model_args: "ModelConfig", args: "CoTSFTConfig", records: Any
) -> tuple[Any, Any]:
    """The model of a round and its tokenizer; `model_args.use_peft` says afterwards whether it gets a new LoRA.

    A finished model that is an adapter is either trained on (`continue`), or merged into its base first; a fresh LoRA
    then belongs to the merged model, which is kept in `output_dir/base`.

    Raises:
        ValueError: if `continue` is asked of a model without an adapter, or the adapter's base is another one.
    """
    from peft import PeftModel
    from transformers.utils.peft_utils import find_adapter_config_file

    from hf_reason.models.peft_adapters import check_base

    source = str(model_args.model_name_or_path)
    model_args.use_peft = round_args.adapter == "fresh"
    if find_adapter_config_file(source, revision=model_args.model_revision) is None:
        if round_args.adapter == "continue":
            raise ValueError(f"adapter='continue': {source} holds no adapter. Use adapter='fresh' or 'none'.")
        return load_model_and_tokenizer(model_args, ScratchArguments(), args, records)
    if round_args.adapter != "continue" and (model_args.load_in_4bit or model_args.load_in_8bit):
        raise ValueError(
            f"adapter={round_args.adapter!r} merges the adapter of {source} into its base, and quantised weights "
            "would be rounded again. Load it without load_in_4bit and load_in_8bit, or use adapter='continue'."
        )
    merged = Path(str(args.output_dir), MERGED_FOLDER)
    resumed = round_args.adapter == "fresh" and (merged / "config.json").is_file()
    base = str(merged) if resumed else _base_of(source)
    model_args.model_name_or_path = base
    try:
        tokenizer_of = ScratchArguments(tokenizer_name_or_path=source)
        model, tokenizer = load_model_and_tokenizer(model_args, tokenizer_of, args, records)
    except ValueError as error:
        raise ValueError(f"The adapter {source} belongs to the base {base}, which is not at hand: {error}") from error
    finally:
        model_args.model_name_or_path = source
    if resumed:
        return model, tokenizer
    check_base(source, model)
    try:
        adapted: Any = PeftModel.from_pretrained(model, source, is_trainable=round_args.adapter == "continue")
    except RuntimeError as error:
        what = " ".join(str(error).split())[:300]
        raise ValueError(
            f"The adapter {source} does not fit {base}, which it names as its base: {what}. Put the base that it was "
            "trained on back in that place, or correct base_model_name_or_path in its adapter_config.json."
        ) from error
    if round_args.adapter == "continue":
        for config in adapted.peft_config.values():
            config.base_model_name_or_path = base  # where it was found, which may not be where it was
        return adapted, tokenizer
    whole = adapted.merge_and_unload()
    if round_args.adapter == "fresh":
        with args.main_process_first(desc="writing the merged base"):
            if args.process_index == 0:
                partial = merged.with_name(MERGED_FOLDER + ".partial")
                whole.save_pretrained(partial)
                tokenizer.save_pretrained(partial)
                os.replace(partial, merged)
        whole.config._name_or_path = whole.name_or_path = str(merged)
    return whole, tokenizer


def _base_of(source: str) -> str:
    """The base model of an adapter; one that came with it, in its folder `base`, is used wherever the two are now."""
    from peft import PeftConfig

    base, beside = PeftConfig.from_pretrained(source).base_model_name_or_path, Path(source, MERGED_FOLDER)
    if not base:
        raise ValueError(f"{source}/adapter_config.json names no base model. Write it: base_model_name_or_path.")
    return str(beside) if not os.path.isdir(base) and (beside / "config.json").is_file() else str(base)
