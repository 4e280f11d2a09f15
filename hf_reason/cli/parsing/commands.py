"""The commands of `hf-reason`: what each is for, and where its arguments are."""

import importlib
from dataclasses import dataclass
from typing import Any

from .fields import FieldView, fields_of
from .library_arguments import GRPO, LORA, MODEL, TRAINING

_OURS = "hf_reason.cli.arguments:"
_GENERATION = "hf_reason.cli.generation_arguments:"
_EVALUATION = f"{_GENERATION}EvaluationArguments"
_SFT = "hf_reason.trainers.cot_sft_config:CoTSFTConfig"
_DISTILL = "hf_reason.trainers.distill_kl_config:DistillKLConfig"
_LORA = "hf_reason.trainers.reasoner_lora_config:ReasonerLoRAConfig"
_GRPO = "hf_reason.trainers.step_grpo_config:StepGRPOConfig"
_TRL_GRPO = "trl.trainer.grpo_config:GRPOConfig"
_MODEL = "trl.trainer.model_config:ModelConfig"

# The project's own arguments by section, under the class that states them.
_TITLES = {
    f"{_OURS}SourceArguments": "data",
    f"{_OURS}DataArguments": "data",
    f"{_OURS}ContinualArguments": "rounds",
    f"{_OURS}CacheArguments": "cache",
    f"{_OURS}StudentArguments": "student",
    f"{_OURS}ScratchArguments": "model",
    f"{_OURS}LongContextArguments": "model",
    f"{_OURS}RoutingArguments": "routing",
    _SFT: "loss and order",
    _DISTILL: "teacher",
    _LORA: "LoRA",
    _GRPO: "steps and problems",
    "hf_reason.cli.grpo_arguments:RewardArguments": "rewards",
    f"{_GENERATION}GenerationArguments": "evaluation",
    f"{_GENERATION}InferenceArguments": "evaluation",
    _EVALUATION: "evaluation",
    "hf_reason.cli.prepare:PrepareArguments": "data",
    "hf_reason.data.prepare.settings:PrepareConfig": "records",
    "hf_reason.data.clean.filters:FilterConfig": "filters",
    "hf_reason.cli.trace_arguments:GenerateTracesArguments": "traces",
    "hf_reason.cli.augment_arguments:AugmentArguments": "augmentation",
    "hf_reason.cli.evaluate:EvaluateArguments": "evaluation",
    "hf_reason.cli.ask:AskArguments": "question",
    "hf_reason.cli.serve:ServeArguments": "serving",
    "hf_reason.cli.circling.arguments:CircleArguments": "circle",
    "hf_reason.cli.demo:DemoArguments": "demo",
    "hf_reason.cli.prune:PruneArguments": "pruning",
    "hf_reason.cli.quantize:QuantizeArguments": "quantisation",
    "hf_reason.cli.export_gguf:ExportGgufArguments": "export",
    "hf_reason.cli.compress:CompressArguments": "path",
    "hf_reason.cli.compression_arguments:CompressionArguments": "compression",
}
_ORDER = (
    "question",
    "pruning",
    "quantisation",
    "path",
    "compression",
    "data",
    "rounds",
    "cache",
    "student",
    "teacher",
    "routing",
    "rewards",
    "steps and problems",
    "groups",
    "model",
    "loss and order",
    "records",
    "filters",
)
_SHOWN = {"model": MODEL, "LoRA": LORA, "training": TRAINING}


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        name: As typed.
        summary: One line for `hf-reason --help`.
        module: Its module, with `main(argv)`.
        classes: Its argument classes, `module:Class`.
        launches: Whether it can run in several processes.
        trains: Whether it trains a model (its arguments are TRL's and transformers', too).
        example: A line that works.
    """

    name: str
    summary: str
    module: str
    classes: tuple[str, ...]
    launches: bool = False
    trains: bool = False
    example: str = ""

    def fields(self) -> dict[str, FieldView]:
        """Name -> argument."""
        names = {cls.partition(":")[2] for cls in self.classes}
        found = {name: view for cls in self.classes for name, view in fields_of(cls).items()}
        # a field that is one of the other classes has its arguments there
        return {name: view for name, view in found.items() if view.annotation not in names}

    def sections(self) -> dict[str, list[FieldView]]:
        """Title -> the arguments that `--help` shows: the project's own, and the usual ones of the libraries."""
        found: dict[str, list[FieldView]] = {}
        for view in self.fields().values():
            title = self._title_of(view)
            if title is not None:
                found.setdefault(title, []).append(view)
        for title, views in found.items():
            views.sort(key=lambda view: _rank(title, view))
        others = [title for title in found if title not in _ORDER and title not in _SHOWN]
        return {title: found[title] for title in dict.fromkeys([*_ORDER, *others, *_SHOWN]) if title in found}

    def _title_of(self, view: FieldView) -> str | None:
        """Where `--help` shows an argument; `None`: only `--help_all` does."""
        if view.owner in (_TRL_GRPO, _GRPO) and view.name in GRPO:
            return "groups"
        if self.trains and not view.owner.startswith((_OURS, _GENERATION)):
            for title, names in _SHOWN.items():
                if view.name in names:  # also where a trainer's config states it anew, for its default
                    return title
        return _TITLES.get(view.owner)


def _rank(title: str, view: FieldView) -> tuple[bool, bool, int]:
    """Required arguments first; the libraries' ones in the order of their table, after the project's own."""
    names = list(_SHOWN.get(title, ()))
    known = view.name in names
    after = not known if title == "model" else known
    return not view.is_required, after, names.index(view.name) if known else 0


def _training(name: str, summary: str, classes: tuple[str, ...], example: str) -> Command:
    ours = tuple(cls if ":" in cls else _OURS + cls for cls in classes)
    return Command(name, summary, f"hf_reason.cli.{name}", (*ours, _MODEL), True, True, example)


_COMMANDS = (
    _training(
        "sft",
        "fine-tune a model on chains of thought, or train one from scratch",
        ("DataArguments", "ScratchArguments", "LongContextArguments", _EVALUATION, _SFT),
        "hf-reason sft --model_name_or_path Qwen/Qwen2.5-0.5B --dataset_name data/mine --output_dir out/mine",
    ),
    _training(
        "distill",
        "train a student on the distributions of a teacher",
        ("DataArguments", "StudentArguments", "ScratchArguments", "LongContextArguments", _EVALUATION, _DISTILL),
        "hf-reason distill --teacher_model_name_or_path Qwen/Qwen2.5-7B-Instruct --model_name_or_path "
        "Qwen/Qwen2.5-0.5B-Instruct --dataset_name data/mine --output_dir out/mine",
    ),
    _training(
        "lora",
        "train a LoRA on the layers that reason, with proof that nothing else moved",
        ("DataArguments", _EVALUATION, _LORA),
        "hf-reason lora --model_name_or_path out/mine --reasoner_layers 8-15 --dataset_name data/new "
        "--output_dir out/new",
    ),
    _training(
        "loar",
        "route the attention of a model, so that it computes and caches less",
        ("RoutingArguments", "DataArguments", _EVALUATION, _SFT),
        "hf-reason loar --model_name_or_path out/mine --budget 0.5 --dataset_name data/mine --output_dir out/routed",
    ),
    _training(
        "grpo",
        "train a finished model further by rewards, with credit for single steps",
        ("hf_reason.cli.grpo_arguments:RewardArguments", "DataArguments", _EVALUATION, _GRPO),
        "hf-reason grpo --model_name_or_path out/mine --dataset_name data/mine --output_dir out/rewarded",
    ),
    _training(
        "continual",
        "train a finished model further, and measure what it forgets",
        ("ContinualArguments", "DataArguments", _EVALUATION, _SFT),
        "hf-reason continual --model_name_or_path out/round1 --dataset_name feedback.jsonl --old_dataset data/mine "
        "--output_dir out/round2",
    ),
    Command(
        "cache-teacher",
        "write a teacher's distributions to disk, so that `distill` runs without the teacher",
        "hf_reason.cli.cache_teacher",
        (f"{_OURS}CacheArguments",),
        launches=True,
        example="hf-reason cache-teacher --dataset_name data/mine "
        "--teacher_model_name_or_path Qwen/Qwen2.5-7B-Instruct",
    ),
    Command(
        "generate-traces",
        "let a teacher answer problems several times, verify the answers, and keep the good chains",
        "hf_reason.cli.generate_traces",
        ("hf_reason.cli.trace_arguments:GenerateTracesArguments",),
        example="hf-reason generate-traces --dataset_name problems.jsonl --teacher_model_name_or_path "
        "http://127.0.0.1:8000/v1 --output_dir data/traces",
    ),
    Command(
        "prepare",
        "turn raw traces into clean records, with a report",
        "hf_reason.cli.prepare",
        (
            "hf_reason.cli.prepare:PrepareArguments",
            "hf_reason.data.prepare.settings:PrepareConfig",
            "hf_reason.data.clean.filters:FilterConfig",
        ),
        example="hf-reason prepare --dataset_name traces.jsonl more/ --output_dir data/mine",
    ),
    Command(
        "augment",
        "make more training records of those that there are: distractors, paraphrases, pairs of steps",
        "hf_reason.cli.augment",
        ("hf_reason.cli.augment_arguments:AugmentArguments",),
        example="hf-reason augment --dataset_name data/mine --distractors 0.5 --output_dir data/augmented",
    ),
    Command(
        "quantize",
        "store a model's weights in a few bits (GPTQ, bitsandbytes), calibrated on chains of thought, and compare",
        "hf_reason.cli.quantize",
        ("hf_reason.cli.quantize:QuantizeArguments",),
        example="hf-reason quantize --model_name_or_path out/mine --dataset_name data/mine --output_dir out/4bit",
    ),
    Command(
        "prune",
        "make a model smaller: weak weights zero, or groups, channels and layers out; recover, and compare",
        "hf_reason.cli.prune",
        ("hf_reason.cli.prune:PruneArguments",),
        example="hf-reason prune --model_name_or_path out/mine --dataset_name data/mine --recover_steps 200 "
        "--output_dir out/pruned",
    ),
    Command(
        "compress",
        "the whole path: a student of a teacher, pruned, recovered, quantised; measured after each stage",
        "hf_reason.cli.compress",
        ("hf_reason.cli.compress:CompressArguments",),
        example="hf-reason compress --teacher_model_name_or_path out/mine --dataset_name data/mine "
        "--prune.ratio 0.2 --prune.recover_steps 200 --quantize.bits 4 --output_dir out/small",
    ),
    Command(
        "export-gguf",
        "write a model as one file for llama.cpp, Ollama and LM Studio, read again and compared",
        "hf_reason.cli.export_gguf",
        ("hf_reason.cli.export_gguf:ExportGgufArguments",),
        example="hf-reason export-gguf --model_name_or_path out/mine --outfile out/mine-q8_0.gguf",
    ),
    Command(
        "evaluate",
        "measure answers and steps of one or several models on held-out problems",
        "hf_reason.cli.evaluate",
        ("hf_reason.cli.evaluate:EvaluateArguments",),
        launches=True,
        example="hf-reason evaluate --model_name_or_path out/mine --dataset_name data/mine --output_dir report",
    ),
    Command(
        "ask",
        "ask a model one question and see its steps",
        "hf_reason.cli.ask",
        ("hf_reason.cli.ask:AskArguments",),
        example='hf-reason ask --model_name_or_path out/mine --question "1+1=?"',
    ),
    Command(
        "serve",
        "answer over OpenAI's API, with the thought apart and a budget for it",
        "hf_reason.cli.serve",
        ("hf_reason.cli.serve:ServeArguments",),
        example="hf-reason serve --model_name_or_path out/mine --adapters finance=out/finance",
    ),
    Command(
        "circle",
        "serve, learn from the feedback, test the new version on the users, promote or roll back",
        "hf_reason.cli.circle",
        ("hf_reason.cli.circling.arguments:CircleArguments",),
        example="hf-reason circle --model_name_or_path out/mine --continual.old_dataset data/mine "
        "--output_dir out/round2",
    ),
    Command(
        "demo",
        "the whole way in minutes, on built-in data and without downloads",
        "hf_reason.cli.demo",
        ("hf_reason.cli.demo:DemoArguments",),
        example="hf-reason demo",
    ),
)
COMMANDS: dict[str, Command] = {command.name: command for command in _COMMANDS}


def module_of(command: Command) -> Any:
    """The module of a command, with its `main(argv)`; imports the libraries that it needs."""
    return importlib.import_module(command.module)
