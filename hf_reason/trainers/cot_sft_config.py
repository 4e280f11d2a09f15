"""Configuration of `CoTSFTTrainer`."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from trl import SFTConfig

from hf_reason._options import numbers_from_text, option, parsed_option
from hf_reason._renamed import renamed
from hf_reason.trainers.loss_terms.tasks import parse_tasks
from hf_reason.trainers.sampling.domains import check_ratios


@renamed(domain_shares="domain_ratios", curriculum_share="curriculum_ratio")
@dataclass
class CoTSFTConfig(SFTConfig):
    """`SFTConfig` with what is particular to chains of thought.

    Parameters:
        > Parameters that control the loss

        thought_weight (`float`, defaults to `1.0`):
            Weight of the thought's tokens in the loss.
        answer_weight (`float`, defaults to `1.0`):
            Weight of the answer's tokens in the loss.
        step_weighting (`str`, defaults to `"token"`):
            `"token"`: every token has the same weight. `"step"`: every step has, however long it is.

        tasks (`dict` or `str`, *optional*):
            Several tasks at once: what a record's `task` field says -> `{"kind": "generation" or "classification",
            "labels": [...], "weight": 1.0}`. A classification has the cross-entropy over its labels only, where their
            tokens part; records of a task that is not named are generations of weight 1. As JSON on the command line.
        mixup_alpha (`float`, defaults to `0.0`):
            MixUp: the chains of a batch are mixed in pairs as embeddings, in a ratio from Beta(alpha, alpha), and
            trained with both labels; 0 switches it off.

        > Parameters that control which examples are drawn

        domain_temperature (`float`, *optional*):
            Draw a domain with n examples in proportion to `n ** (1 / domain_temperature)`: 1 is as in the data, a
            large one evens the domains out.
        domain_ratios (`dict` or `str`, *optional*):
            Draw the domains in these ratios: `{"finance": 0.5, "math": 0.5}`. As JSON on the command line.
        domain_target (`str` or `dict`, defaults to `"sampled"`):
            Which mixture the loss estimates: the one that is drawn, that of the `"data"`, or ratios of its own. Unless
            it is the drawn one, each example's loss carries its importance weight.
        curriculum (`str`, *optional*):
            Easy first, by the number of `"steps"`, the `"length"` in tokens, or how often a teacher has solved the
            problem (`"pass_rate"`, see `difficulty_from`); or little data first and then more (`"size"`).
        difficulty_from (`str`, *optional*):
            Folder of `hf-reason generate-traces`, or of `hf-reason evaluate` with several samples of the training
            split: the pass rates of `curriculum="pass_rate"`. A problem that is not in it counts as one that is
            solved half of the time.
        curriculum_stages (`int`, defaults to `3`):
            Stages; stage k of n draws from the first k / n of the examples in that order.
        curriculum_ratio (`float`, defaults to `0.5`):
            Fraction of the run over which the stages are spread; after it, all examples are drawn from.

        > Parameters that control the data

        overlong (`str`, defaults to `"drop"`):
            What happens to an example longer than `max_length`: `"drop"` (counted and printed), `"split"` (into
            pieces of whole steps, each with the prompt; see `hf_reason.text.split_record`), `"truncate"` (cut at the
            end; the model may not learn to close its thought) or `"error"`.
        overlap_steps (`int`, defaults to `1`):
            With `overlong="split"`: steps before a piece that it has as context, without a loss on them.
        add_thinking_switch (`bool`, defaults to `False`):
            Gives a chat template that has no switch between thinking and not one (`enable_thinking`), which is saved
            with the tokenizer. Records with and without a chain cannot be trained together without it.

        > Parameters that control the optimizer

        muon_learning_rate (`float`, *optional*):
            Trains the matrices of the layers with Muon at this learning rate; embeddings, norms and biases stay with
            AdamW at `learning_rate`. For models trained from scratch.

    > [!NOTE]
    > `label_smoothing_factor` is computed from the hidden states here; it costs no second forward pass as in TRL.
    > Defaults that differ from `SFTConfig`: `max_length` is 4096, since reasoning traces are long; `bf16` is off where
    > there is no accelerator.
    """

    thought_weight: float = option(1.0, "Weight of the thought's tokens in the loss.")
    answer_weight: float = option(1.0, "Weight of the answer's tokens in the loss.")
    step_weighting: str = option(
        "token", "Whether every token or every step has the same weight.", choices=["token", "step"]
    )
    tasks: dict[str, Any] | str | None = option(
        None, 'Loss of each task: {"TASK": {"kind": ..., "labels": [...], "weight": 1.0}}.'
    )
    mixup_alpha: float = option(0.0, "MixUp with a ratio from Beta(alpha, alpha); 0: off.")
    domain_temperature: float | None = option(
        None, "Draw a domain of n examples in proportion to n ** (1 / temperature)."
    )
    domain_ratios: dict[str, Any] | str | None = option(
        None, 'Draw the domains in these ratios: {"finance": 0.5, "math": 0.5}.'
    )
    domain_target: dict[str, Any] | str | None = option(
        "sampled", "Mixture that the loss estimates: sampled, data, or ratios as JSON."
    )
    curriculum: str | None = option(
        None,
        "Easy first: by steps, length or pass_rate; or little data first: size.",
        choices=["steps", "length", "pass_rate", "size"],
    )
    difficulty_from: str | None = option(
        None, "Pass rates of the problems for curriculum=pass_rate: folder of generate-traces or evaluate."
    )
    curriculum_stages: int = option(3, "Stages of the curriculum.")
    curriculum_ratio: float = option(0.5, "Fraction of the run over which the stages are spread.")
    overlong: str = option("drop", "Examples over max_length.", choices=["drop", "split", "truncate", "error"])
    add_thinking_switch: bool = option(False, "Add enable_thinking to a chat template.")
    overlap_steps: int = option(1, "Steps of context that a piece of a split chain has before its own.")
    muon_learning_rate: float | None = option(
        None, "Learning rate of Muon for the matrices of the layers. Unset: no Muon."
    )
    max_length: int | None = option(4096, "Longest example in tokens.")

    def __post_init__(self) -> None:
        numbers_from_text(self)
        if self.activation_checkpointing is None:
            # the older of the two names is TRL's default and would warn at every start
            self.activation_checkpointing = self.gradient_checkpointing
        if self.bf16 is None and not torch.accelerator.is_available():
            self.bf16 = False  # TRL's default is True, which a machine without an accelerator refuses
        _read_numbers(self)
        super().__post_init__()
        if self.packing and self.packing_strategy != "bfd":
            raise ValueError(
                f"packing_strategy={self.packing_strategy!r} cuts chains in two. Use 'bfd': it packs whole examples."
            )
        if self.eval_packing and not self.packing:
            raise ValueError(
                "eval_packing=True needs packing=True: the batches of a run are packed or padded, and packed rows in "
                "padded batches would read each other. Leave eval_packing out."
            )
        known = {item.name: item.metadata["choices"] for item in fields(self) if "choices" in item.metadata}
        for name in ("step_weighting", "overlong"):
            if getattr(self, name) not in known[name]:
                raise ValueError(f"{name} must be one of {', '.join(known[name])}, got {getattr(self, name)!r}.")
        for name in ("thought_weight", "answer_weight", "overlap_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        if self.overlong == "split" and self.max_length is None:
            raise ValueError("overlong='split' needs a max_length: the length of the longest piece.")
        if self.thought_weight == self.answer_weight == 0:
            raise ValueError("thought_weight and answer_weight are both 0, so there is no loss. Set one above 0.")
        self._check_strategies()
        if self.loss_type != "nll" and (self.is_weighted or self.label_smoothing_factor > 0 or self.mixup_alpha > 0):
            raise ValueError(
                f"loss_type={self.loss_type!r} has its own token weights and cannot be combined with thought_weight, "
                "answer_weight, step_weighting, label_smoothing_factor, tasks, domain_target or mixup_alpha. Use "
                "loss_type='nll'."
            )

    def _check_strategies(self) -> None:
        self.tasks = parsed_option("tasks", self.tasks)
        parse_tasks(self.tasks or {})
        self.domain_ratios = parsed_option("domain_ratios", self.domain_ratios)
        if self.domain_target not in ("sampled", "data"):
            self.domain_target = parsed_option("domain_target", self.domain_target) or "sampled"
        for name in ("domain_ratios", "domain_target"):
            if isinstance(ratios := getattr(self, name), dict):
                check_ratios(name, ratios)
        if self.domain_temperature is not None and not self.domain_temperature > 0:
            raise ValueError(f"domain_temperature must be above 0, got {self.domain_temperature}.")
        if self.domain_temperature is not None and self.domain_ratios is not None:
            raise ValueError("domain_temperature and domain_ratios both say how often a domain is drawn. Give one.")
        if self.curriculum not in (None, "steps", "length", "pass_rate", "size"):
            raise ValueError(f"curriculum must be steps, length, pass_rate or size, got {self.curriculum!r}.")
        if (self.curriculum == "pass_rate") != (self.difficulty_from is not None):
            raise ValueError(
                "curriculum=pass_rate and difficulty_from belong together: the folder of hf-reason generate-traces, "
                "or of hf-reason evaluate with several samples. Give both, or none."
            )
        if self.curriculum_stages < 2 or not 0 < self.curriculum_ratio <= 1:
            raise ValueError(
                "curriculum_stages must be 2 or more and curriculum_ratio above 0 and at most 1, got "
                f"{self.curriculum_stages} and {self.curriculum_ratio}."
            )
        if self.curriculum and self.packing:
            raise ValueError("Packing puts easy and hard examples into one row: set packing=False for a curriculum.")
        if (self.curriculum or self.samples_domains) and self.train_sampling_strategy == "sequential":
            raise ValueError(
                "train_sampling_strategy='sequential' keeps the order of the data, which domain ratios and a "
                "curriculum change. Use 'random' or 'group_by_length'."
            )
        if self.mixup_alpha < 0:
            raise ValueError(f"mixup_alpha must not be negative, got {self.mixup_alpha}.")
        if self.mixup_alpha > 0 and (self.packing or self.padding_free):
            raise ValueError(
                "MixUp mixes the rows of a padded batch; a packed row has no partner of its own length. Set "
                "packing=False and padding_free=False, or mixup_alpha=0."
            )
        if self.mixup_alpha > 0 and self.per_device_train_batch_size < 2:
            raise ValueError("MixUp pairs the examples of a batch: set per_device_train_batch_size to 2 or more.")

    @property
    def is_weighted(self) -> bool:
        """Whether the loss differs from the plain mean over target tokens."""
        by_span = (self.thought_weight, self.answer_weight, self.step_weighting) != (1.0, 1.0, "token")
        return by_span or bool(self.tasks) or self.domain_target != "sampled"

    @property
    def samples_domains(self) -> bool:
        """Whether domains are drawn in other ratios than those of the data."""
        return self.domain_temperature is not None or self.domain_ratios is not None


def _read_numbers(args: Any) -> None:
    """Numbers that were given as text, as YAML reads `1e-3`.

    Raises:
        ValueError: if a text is no number.
    """
    for item in fields(args):
        value = getattr(args, item.name)
        if isinstance(value, str) and item.type in (float, int, "float", "int"):
            kind: Any = float if item.type in (float, "float") else int
            try:
                setattr(args, item.name, kind(value))
            except ValueError:
                raise ValueError(f"{item.name} must be a number, got {value!r}.") from None
