"""The arguments that commands share: what a run reads, trains, generates and compares. One class an idea.

Each field says whether the model card shows it (`card`) and whether it may change when a run is resumed (`resumable`).
Nothing heavy is imported here, so that `--help` is fast.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_reason._options import option, parsed_option
from hf_reason._renamed import renamed
from hf_reason.data.read.layouts import LAYOUTS

ADAPTERS = ("fresh", "continue", "none")


def as_list(value: Any) -> list[str]:
    """A list of names from what a YAML or a Python caller gives: nothing, one name, or several."""
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]


@dataclass
class SourceArguments:
    """Which records a command reads."""

    dataset_name: list[str] | None = option(
        None,
        "Prepared folder, raw file(s) or Hub name; raw data is prepared on the fly. Default: the built-in sample.",
        card=False,
    )
    domain: str = option("all", "Prepared data: only records of this domain. Raw files: the domain of every record.")
    schema: str | None = option(
        None, "Layout of raw files. Default: told by their columns.", choices=LAYOUTS, card=False
    )
    skip_broken: bool = option(False, "Count rows of raw files that cannot be read, and continue.", card=False)
    thought_tags: list[str] | None = option(
        None, "More tags that enclose a thought in raw files: x for <x>...</x>, or OPEN,CLOSE.", card=False
    )

    def __post_init__(self) -> None:
        self.dataset_name = as_list(self.dataset_name) or None
        self.thought_tags = as_list(self.thought_tags) or None


@renamed(dataset="dataset_name")
@dataclass
class DataArguments(SourceArguments):
    """What a training run reads, and in which form it is trained."""

    max_train_records: int | None = option(None, "Only the first records of the training split.")
    max_dropped_ratio: float = option(
        0.2, "Refuse to train if max_length drops more than this fraction of the records.", card=False, resumable=True
    )
    instructions: str | None = option(
        None, "YAML with a template for each domain, or 'default' for the built-in ones.", card=False
    )
    thinking: bool = option(True, "False: train on the answers without their thoughts.")
    expected_world_size: int | None = option(
        None, "Number of processes that must train together; any other is an error.", card=False, resumable=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.max_dropped_ratio <= 1:
            raise ValueError(f"max_dropped_ratio must be between 0 and 1, got {self.max_dropped_ratio}.")

    @property
    def report(self) -> Path | None:
        """The report of the data, if they are one prepared or augmented folder."""
        return report_of(self.dataset_name or [])


def report_of(names: Sequence[str]) -> Path | None:
    """The report of one folder that `prepare` wrote, or that `augment` made of such a folder."""
    if len(names) != 1:
        return None
    prepared, augmented = (Path(names[0], name) for name in ("report.json", "augment.json"))
    if prepared.is_file():
        return prepared
    try:
        return augmented if "preparation" in json.loads(augmented.read_text(encoding="utf-8")) else None
    except (OSError, ValueError):  # it is not there, or broken, which is no matter for a card
        return None


@dataclass
class ScratchArguments:
    """A model trained from scratch, built when no `model_name_or_path` is given."""

    model_type: str = option("qwen2", "transformers' model_type of a model built from scratch.")
    model_config: dict[str, Any] | str | None = option(
        None, 'JSON of that model\'s config: {"hidden_size": 128, "num_hidden_layers": 4, ...}.'
    )
    tokenizer_name_or_path: str | None = option(None, "Tokenizer. Default: the model's, or one trained on the data.")
    vocab_size: int = option(4000, "Largest vocabulary of a tokenizer trained on the data.")

    def __post_init__(self) -> None:
        self.model_config = parsed_option("model_config", self.model_config)


@dataclass
class StudentArguments:
    """A student that is a part of its teacher."""

    student_layers: int | None = option(None, "Start from this many of the teacher's layers, chosen evenly.")
    student_config: dict[str, Any] | str | None = option(
        None, 'Start from a narrower teacher, JSON: {"hidden_size": 256, "intermediate_size": 768, ...}.'
    )

    def __post_init__(self) -> None:
        self.student_config = parsed_option("student_config", self.student_config)


@dataclass
class LongContextArguments:
    """Sliding windows and scaled positions of the model that is trained."""

    sliding_window: int | None = option(None, "Tokens that the sliding layers see. Unset: the model's own attention.")
    sliding_window_layers: str = option("shallow_half", "shallow_half, all, a ratio (0.5), a range (0-3) or numbers.")
    rope_scaling: dict[str, Any] | str | None = option(
        None, 'Stretch the positions, JSON: {"factor": 4, "rope_type": "yarn"}.'
    )

    def __post_init__(self) -> None:
        self.sliding_window_layers = layers_text(self.sliding_window_layers)
        self.rope_scaling = parsed_option("rope_scaling", self.rope_scaling)
        if self.rope_scaling is not None and "factor" not in self.rope_scaling:
            raise ValueError('rope_scaling lacks the factor: {"factor": 4, "rope_type": "yarn"}.')


@renamed(anneal_share="anneal_ratio")
@dataclass
class RoutingArguments:
    """How `loar` routes the attention."""

    grain: str = option(
        "groups", "What is routed: key/value groups, or the query heads inside them.", choices=("groups", "heads")
    )
    budget: str = option("0.75", "Ratio of the groups (heads) that work, or their number in each layer: 4,4,3,2.")
    shared_groups: int = option(1, "Groups (heads) that always work.")
    static_groups: str | None = option(
        None, "JSON: the groups (heads) that work in each layer, without a router: [[0, 1], ...]."
    )
    loar_window: int | None = option(None, "Tokens that the window layers see.")
    loar_window_layers: str = option("shallow_half", "shallow_half, all, a ratio (0.25), a range (0-3) or numbers.")
    task_names: list[str] = option(help="Domains with an embedding that steers the router.", default_factory=list)
    task_dropout: float = option(0.1, "Fraction of the sequences whose domain is hidden.")
    balance_weight: float = option(0.01, "Weight of the load-balance term.")
    anneal_ratio: float = option(0.1, "Fraction of the run during which the budget falls.")
    calibration_records: int = option(
        64, "Training records on which the worth of each group (head) is measured to initialise routers; 0: random."
    )
    search_records: int = option(
        0, "Validation records for a search of the layers' budgets before the training; 0: no search."
    )

    def __post_init__(self) -> None:
        self.budget = ",".join(as_list(self.budget))
        self.loar_window_layers = layers_text(self.loar_window_layers)
        self.task_names = as_list(self.task_names)


@renamed(replay_share="replay_ratio")
@dataclass
class ContinualArguments:
    """A further round of training; `dataset_name` has its new records."""

    old_dataset: list[str] = option(help="Data of the rounds before, given like dataset_name.", card=False)
    replay_ratio: float = option(0.2, "Fraction of old records among those that are trained on.")
    adapter: str = option(
        "fresh", "fresh: a new LoRA; continue: the model's own; none: all weights.", choices=ADAPTERS
    )
    max_drop: float = option(5.0, "Points that an old domain may lose before publishing.", card=False, resumable=True)
    old_domains: list[str] | None = option(
        None, "Old domains that are replayed and watched. Default: all of old_dataset."
    )
    min_learned_records: int = option(
        10, "New training records from which a domain counts as learned.", card=False, resumable=True
    )

    def __post_init__(self) -> None:
        self.old_dataset = as_list(self.old_dataset)
        self.old_domains = as_list(self.old_domains) or None
        if not 0 <= self.replay_ratio < 1:
            raise ValueError(f"replay_ratio must be at least 0 and below 1, got {self.replay_ratio}.")
        if self.adapter not in ADAPTERS:
            raise ValueError(f"adapter must be one of {', '.join(ADAPTERS)}, got {self.adapter!r}.")
        for name in ("max_drop", "min_learned_records"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")


@renamed(
    dataset="dataset_name",
    teacher="teacher_model_name_or_path",
    k="top_k",
    path="path_consistency",
    tokenizer="tokenizer_name_or_path",
    teacher_tokenizer="teacher_tokenizer_name_or_path",
    student="student_model_name_or_path",
)
@dataclass(kw_only=True)
class CacheArguments(SourceArguments):
    """What `cache-teacher` reads, keeps and measures."""

    teacher_model_name_or_path: str = option(help="Folder or Hub name, or the URL of an OpenAI-compatible server.")
    output_dir: str | None = option(None, "Folder of the cache. Default: <dataset_name>-teacher.")
    splits: list[str] = option(help="Splits that are cached.", default_factory=lambda: ["train", "validation"])
    top_k: int = option(32, "Tokens kept of each distribution.")
    tail_samples: int = option(
        8, "Tokens drawn from the rest of each distribution, for an unbiased KL. A served teacher: 0."
    )
    temperature: float = option(1.0, "Temperature of the training that reads the cache.")
    path_consistency: bool = option(False, "Keep the similarities between steps (for path_weight).")
    instructions: str | None = option(None, "YAML with a template for each domain, or 'default', as in the training.")
    thinking: bool = option(True, "False: the answers without their thoughts.")
    max_length: int = option(4096, "Records that are longer, in tokens, are left out.")
    max_records: int | None = option(None, "Only the first records of each split.")
    tokenizer_name_or_path: str | None = option(None, "The student's tokenizer. Default: the teacher's.")
    teacher_tokenizer_name_or_path: str | None = option(None, "The teacher's tokenizer; a served teacher needs it.")
    teacher_served_model: str | None = option(None, "Model name on the server. Default: its first.")
    teacher_model_init_kwargs: dict[str, Any] | str | None = option(
        None, 'JSON for from_pretrained: {"dtype": "bfloat16", "load_in_4bit": true, ...}.'
    )
    student_model_name_or_path: str | None = option(None, "Measure the error of the KL against this model.")
    batch_size: int = option(8, "Records that the teacher reads at once.")
    rows_per_shard: int = option(1000, "Records in a file; an interrupted run loses no more than these.")
    trust_remote_code: bool = option(False, "Run code that comes with the models.")
    use_cpu: bool = option(False, "Do not use an accelerator.")
    expected_world_size: int | None = option(None, "Number of processes that must work together.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.splits = as_list(self.splits)
        if not self.dataset_name and not self.output_dir:
            raise ValueError("the cache of the built-in sample has no place of its own. Give --output_dir.")
        self.teacher_model_init_kwargs = parsed_option("teacher_model_init_kwargs", self.teacher_model_init_kwargs)


def layers_text(value: Any) -> str:
    """Layers as one text, whether a YAML gave a text, a number or a list of numbers."""
    return ",".join(as_list(value))
