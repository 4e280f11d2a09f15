"""Configuration of LoAR."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hf_reason._files import write_atomically

CONFIG_FILE = "loar_config.json"


@dataclass
class LoARConfig:
    """Which share of the attention works, and where it looks.

    A *group* is a key/value head with its query heads. With `G` groups in a layer, `k` of them work on a sequence:
    `shared_groups` always, the others by the router's choice.

    Attributes:
        budget: Share of the groups that work in each layer, above 0 and at most 1 (rounded up); or a list, their
            number in each layer.
        shared_groups: Groups of each layer that always work (mixture-of-head attention, Jin et al. 2024, arXiv
            2410.11842): the first ones, or after `calibrate_routers` those that matter most.
        static_groups: The groups of each layer that work on every sequence: pruning instead of routing. No router
            then.
        sliding_window: Tokens that the window layers see; `None`: no windows.
        window_layers: Which layers have one: `"shallow_half"`, `"all"`, a share from the bottom, or their numbers.
        task_names: Tasks (domains) that have an embedding, which is added to what the router reads.
        task_dropout: Share of the training sequences whose task is hidden, so that the router also works without.
        balance_weight: Weight of the load-balance term.
        anneal_share: Share of a training run in which the budget falls from all groups to its value.
        prompt_end_ids: Tokens that end a prompt, for texts that come without labels (`set_prompt_end`).
    """

    budget: float | list[int] = 0.75
    shared_groups: int = 1
    static_groups: list[list[int]] | None = None
    sliding_window: int | None = None
    window_layers: str | float | list[int] = "shallow_half"
    task_names: list[str] = field(default_factory=list)
    task_dropout: float = 0.1
    balance_weight: float = 0.01
    anneal_share: float = 0.1
    prompt_end_ids: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if isinstance(self.budget, int | float) and not 0 < self.budget <= 1:
            raise ValueError(f"budget must be a share above 0 and at most 1, or a list of numbers, got {self.budget}.")
        window = self.sliding_window
        if window is not None and (isinstance(window, bool) or not isinstance(window, int) or window < 1):
            raise ValueError(f"sliding_window={window!r}: it must be a whole number of tokens, at least 1.")
        if self.shared_groups < 0:
            raise ValueError(f"shared_groups must not be negative, got {self.shared_groups}.")
        for name in ("task_dropout", "anneal_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}.")
        if self.balance_weight < 0:
            raise ValueError(f"balance_weight must not be negative, got {self.balance_weight}.")
        if len(set(self.task_names)) < len(self.task_names):
            raise ValueError(f"task_names has a name twice: {self.task_names}.")

    def budgets(self, layers: int, groups: int) -> list[int]:
        """Groups that work in each layer.

        Raises:
            ValueError: if a number does not fit the model.
        """
        if self.static_groups is not None:
            _check_groups(self.static_groups, layers, groups)
            return [len(chosen) for chosen in self.static_groups]
        share = self.budget
        found = list(share) if isinstance(share, Sequence) else [-int(-share * groups // 1)] * layers
        if len(found) != layers or any(not isinstance(k, int) or not 1 <= k <= groups for k in found):
            raise ValueError(
                f"budget={self.budget} does not fit: the model has {layers} layers of {groups} groups, so it is a "
                f"share or {layers} numbers from 1 to {groups}."
            )
        if any(k < self.shared_groups for k in found):
            raise ValueError(f"shared_groups={self.shared_groups} is more than a layer's budget ({min(found)}).")
        return found

    def set_prompt_end(self, tokenizer: Any) -> "LoARConfig":
        """Learn from the tokenizer's prompts which tokens end them; returns itself."""
        from hf_reason.text import encode_prompt

        first, second = (encode_prompt({"context": text}, tokenizer) for text in ("苹果", "12个书包"))
        count = 0
        while count < min(len(first), len(second)) and first[-count - 1] == second[-count - 1]:
            count += 1
        self.prompt_end_ids = first[len(first) - count :]
        return self

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `loar_config.json`."""
        text = json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"
        write_atomically(Path(folder, CONFIG_FILE), text.encode("utf-8"))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "LoARConfig":
        """Read a `loar_config.json`.

        Raises:
            ValueError: if it is broken or has unknown fields.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is no JSON: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{path} holds no configuration: an object is expected.")
        unknown = set(values) - {item.name for item in fields(cls)}
        if unknown:
            raise ValueError(f"{path} has fields that LoAR does not know: {', '.join(sorted(unknown))}.")
        return cls(**values)


def _check_groups(static: list[list[int]], layers: int, groups: int) -> None:
    if len(static) != layers or any(
        not chosen or len(set(chosen)) < len(chosen) or not all(0 <= group < groups for group in chosen)
        for chosen in static
    ):
        raise ValueError(
            f"static_groups does not fit: it has to name, for each of {layers} layers, different groups from 0 to "
            f"{groups - 1}, at least one."
        )
