"""Configuration of LoAR."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hf_reason._files import write_json_atomically
from hf_reason._renamed import renamed

from .files import CONFIG_FILE, find_file

GRAINS = ("groups", "heads")


@renamed(anneal_share="anneal_ratio")
@dataclass
class LoARConfig:
    """How much of the attention works, and where it looks.

    A *group* is a key/value head with its query heads. With `G` groups in a layer, `k` of them work on a sequence:
    `shared_groups` always, the others by the router's choice. At the grain `"heads"` query heads take the groups'
    place in all that follows: a group leaves the cache when none of its heads works. It is for models with few
    groups.

    Attributes:
        grain: What is routed: `"groups"` or `"heads"`.
        budget: Fraction of the groups that work in each layer, above 0 and at most 1 (rounded up); or a list, their
            number in each layer. A fraction of heads is one of the whole model's: they are spread evenly over the
            layers, until `calibrate_routers` puts them where they matter.
        shared_groups: Groups of each layer that always work (mixture-of-head attention, Jin et al. 2024, arXiv
            2410.11842): the first ones, or after `calibrate_routers` those that matter most.
        static_groups: The groups of each layer that work on every sequence: pruning instead of routing. No router
            then.
        sliding_window: Tokens that the window layers see; `None`: no windows.
        window_layers: Which layers have one: `"shallow_half"`, `"all"`, a fraction from the bottom, their numbers, or
            any other form of `models.layer_selection.parse_layers`.
        task_names: Tasks (domains) that have an embedding, which is added to what the router reads.
        task_dropout: Fraction of the training sequences whose task is hidden, so that the router also works without.
        balance_weight: Weight of the load-balance term.
        anneal_ratio: Fraction of a training run in which the budget falls from all groups to its value.
        prompt_end_ids: Tokens that end a prompt, for texts that come without labels (`set_prompt_end`).
    """

    grain: str = "groups"
    budget: float | list[int] = 0.75
    shared_groups: int = 1
    static_groups: list[list[int]] | None = None
    sliding_window: int | None = None
    window_layers: str | int | float | list[int] = "shallow_half"
    task_names: list[str] = field(default_factory=list)
    task_dropout: float = 0.1
    balance_weight: float = 0.01
    anneal_ratio: float = 0.1
    prompt_end_ids: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.grain not in GRAINS:
            raise ValueError(f"grain must be one of {', '.join(GRAINS)}, got {self.grain!r}.")
        if isinstance(self.budget, bool | str) or isinstance(self.budget, int | float) and not 0 < self.budget <= 1:
            raise ValueError(
                f"budget must be a fraction above 0 and at most 1, or a list of numbers, got {self.budget!r}."
            )
        window = self.sliding_window
        if window is not None and (isinstance(window, bool) or not isinstance(window, int) or window < 1):
            raise ValueError(f"sliding_window={window!r}: it must be a whole number of tokens, at least 1.")
        if isinstance(self.shared_groups, bool) or not isinstance(self.shared_groups, int) or self.shared_groups < 0:
            raise ValueError(f"shared_groups must be a whole number and not negative, got {self.shared_groups!r}.")
        for name in ("task_dropout", "anneal_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}.")
        if self.balance_weight < 0:
            raise ValueError(f"balance_weight must not be negative, got {self.balance_weight}.")
        if not isinstance(self.task_names, list | tuple) or not all(isinstance(n, str) for n in self.task_names):
            raise ValueError(f"task_names must be a list of names, got {self.task_names!r}.")
        if len(set(self.task_names)) < len(self.task_names):
            raise ValueError(f"task_names has a name twice: {self.task_names}.")
        ends = self.prompt_end_ids if isinstance(self.prompt_end_ids, list | tuple) else [None]
        if not all(isinstance(token, int) and not isinstance(token, bool) for token in ends):
            raise ValueError(
                f"prompt_end_ids={self.prompt_end_ids!r} matches no text: it must be one flat list of token ids, such "
                "as [9, 10]. LoARConfig.set_prompt_end(tokenizer) finds them."
            )

    def budgets(self, layers: int, units: int) -> list[int]:
        """Groups (or heads) that work in each layer.

        Raises:
            ValueError: if a number does not fit the model.
        """
        if self.static_groups is not None:
            _check_static(self.static_groups, layers, units, self.grain)
            return [len(chosen) for chosen in self.static_groups]
        budget = self.budget
        if isinstance(budget, Sequence):
            found = list(budget)
        elif self.grain == "groups":
            found = [_part(budget, units)] * layers
        else:
            found = spread(max(_part(budget, layers * units), layers), layers)
        if len(found) != layers or any(not isinstance(k, int) or not 1 <= k <= units for k in found):
            raise ValueError(
                f"budget={self.budget} does not fit: the model has {layers} layers of {units} {self.grain}, so it is "
                f"a fraction or {layers} numbers from 1 to {units}."
            )
        if any(k < self.shared_groups for k in found):
            raise ValueError(f"shared_groups={self.shared_groups} is more than a layer's budget ({min(found)}).")
        return found

    def check_effect(self, layers: int, groups: int, heads: int, vocab_size: int) -> None:
        """Refuse what would have no effect on a model, silently.

        That is a fraction that was meant to switch groups off and is rounded up to all of them, and an end of the
        prompt that is no token of the model.

        Args:
            layers: Of the model.
            groups: Key/value groups of a layer.
            heads: Query heads of a layer.
            vocab_size: Of the model.

        Raises:
            ValueError: in that case.
        """
        outside = [token for token in self.prompt_end_ids if not 0 <= token < vocab_size]
        if outside:
            raise ValueError(
                f"prompt_end_ids={self.prompt_end_ids} matches no text: the model has the ids 0 to {vocab_size - 1}. "
                "LoARConfig.set_prompt_end(tokenizer) finds them."
            )
        budget = self.budget
        if self.static_groups is not None or isinstance(budget, Sequence) or budget == 1:
            return
        units = groups if self.grain == "groups" else heads
        if sum(self.budgets(layers, units)) < layers * units:
            return
        if self.grain == "heads":
            works = f"A model of {layers * heads} query heads needs budget={_most(layers * heads)} or less"
        elif groups == 1:
            works = "A model with one key/value group a layer cannot be routed by groups"
        else:
            works = f"A model with {groups} key/value groups needs budget={_most(groups)} or less"
            if groups - 1 <= self.shared_groups:
                works += f" (and shared_groups below {groups - 1}, so that the router has a choice)"
        if self.grain == "groups" and heads > 1:
            works += f"; grain='heads' routes the {heads} query heads of a layer, at budget={budget} too"
        raise ValueError(
            f"budget={budget} changes nothing: it is rounded up to all {self.grain}. {works}. "
            f"budget=1.0 keeps all {self.grain} at work, for windows alone."
        )

    def set_prompt_end(self, tokenizer: Any) -> "LoARConfig":
        """Learn from the tokenizer's prompts which tokens end them; returns itself."""
        from hf_reason.text import encode_prompt

        first, second = (encode_prompt({"context": text}, tokenizer) for text in ("苹果", "12个书包"))
        count = 0
        while count < min(len(first), len(second)) and first[-count - 1] == second[-count - 1]:
            count += 1
        self.prompt_end_ids = first[len(first) - count :]
        return self

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write `loar_config.json`; the folder is made."""
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        write_json_atomically(Path(save_directory, CONFIG_FILE), asdict(self))

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], revision: str | None = None) -> "LoARConfig":
        """Read the `loar_config.json` of a folder or of a model on the Hub; one of version 0.1 is read, too.

        Raises:
            ValueError: if there is none, or it is broken or has unknown fields.
        """
        path = find_file(os.fspath(name), CONFIG_FILE, revision)
        if path is None:
            raise ValueError(f"{name} holds no {CONFIG_FILE}. Check the folder or the name.")
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is no JSON: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{path} holds no configuration: an object is expected.")
        new_names: dict[str, str] = cls.__renamed__  # type: ignore[attr-defined]
        values = {new_names.get(key, key): value for key, value in values.items()}
        unknown = set(values) - {item.name for item in fields(cls)}
        if unknown:
            raise ValueError(f"{path} has fields that LoAR does not know: {', '.join(sorted(unknown))}.")
        return cls(**values)

    def save(self, *_: Any) -> None:
        """Renamed."""
        raise AttributeError("LoARConfig.save(folder) is called save_pretrained(folder) since version 0.2.")

    @classmethod
    def load(cls, *_: Any) -> "LoARConfig":
        """Renamed."""
        raise AttributeError("LoARConfig.load(path of the file) is called from_pretrained(folder) since version 0.2.")


def spread(total: int, layers: int) -> list[int]:
    """Equal budgets; the remainder is given to the deep layers."""
    each, rest = divmod(total, layers)
    return [each + (layer >= layers - rest) for layer in range(layers)]


def _most(units: int) -> float:
    """The largest fraction that leaves one of them out, with four digits."""
    return (units - 1) * 10_000 // units / 10_000


def _part(budget: float, units: int) -> int:
    return -int(-budget * units // 1)


def _check_static(static: list[list[int]], layers: int, units: int, grain: str) -> None:
    if len(static) != layers or any(
        not chosen or len(set(chosen)) < len(chosen) or not all(0 <= unit < units for unit in chosen)
        for chosen in static
    ):
        raise ValueError(
            f"static_groups does not fit: it has to name, for each of {layers} layers, different {grain} from 0 "
            f"to {units - 1}, at least one."
        )
