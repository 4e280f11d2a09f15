"""Training a model that carries a LoAR: prompts and tasks for its routers, its budget, its balance, its files."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from hf_reason._files import is_first_process
from hf_reason.data.record import DOMAINS
from hf_reason.models.loar.files import WEIGHTS_FILE
from hf_reason.models.loar.hooks import PROMPT_MASK, TASKS, before_first_label
from hf_reason.models.loar.model import LoAR, loar_of
from hf_reason.text.spans import DOMAIN_IDS, PROMPT

if TYPE_CHECKING:
    from trl import GRPOTrainer, SFTTrainer


class Routing(TrainerCallback):
    """The LoAR of a trainer's model; without one all methods do nothing.

    As a callback it keeps the routers informed of how far the training is, and reads the groups' usage.

    Args:
        model: The model, or its name, which has no LoAR.
    """

    def __init__(self, model: Any):
        self.loar: LoAR | None = None if isinstance(model, str) else loar_of(model)
        self.row_domains: torch.Tensor | None = None  # numbers of the domains of a batch, where no column says them
        self._accelerator: Any = None
        self._metrics: Any = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of a batch that the routers read, beyond the tokens."""
        return (DOMAIN_IDS,) if self.loar is not None and self.loar.config.task_names else ()

    def attach(self, trainer: "SFTTrainer | GRPOTrainer") -> None:
        """Begin, once the trainer is built.

        Raises:
            ValueError: if rows are packed or mixed.
        """
        self.loar = loar_of(trainer.accelerator.unwrap_model(trainer.model))
        if self.loar is None:
            return
        args: Any = trainer.args
        # a trainer that makes its own rows has no such settings
        if getattr(args, "packing", False) or getattr(args, "padding_free", False):
            raise ValueError("LoAR routes a row as one sequence: set packing=False and padding_free=False.")
        if getattr(args, "mixup_alpha", 0) > 0:
            raise ValueError("MixUp gives a row two prompts, and LoAR routes by one: set mixup_alpha=0.")
        for parameter in self.loar.parameters():
            parameter.requires_grad_(True)  # PEFT froze them with the base
        self._accelerator, self._metrics = trainer.accelerator, trainer._metrics
        trainer.add_callback(self)

    def add_prompts(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch with what the routers read: where each row's prompt is, and its task."""
        if self.loar is None or "labels" not in batch:
            return batch
        segments = batch.get("segment_ids")
        # a piece of a split chain begins with steps that are no targets, and no prompt either
        prompt = before_first_label(batch["labels"])
        batch[PROMPT_MASK] = prompt if segments is None else ((segments != PROMPT).cumsum(dim=1) == 0) & prompt
        if self.loar.config.task_names and DOMAIN_IDS in batch:
            batch[TASKS] = self.tasks(batch[DOMAIN_IDS][:, 0])
        return batch

    def tasks(self, domains: torch.Tensor) -> torch.Tensor:
        """The routers' task of each row, -1 for none, from the numbers of the domains (`domain_id`)."""
        assert self.loar is not None
        known = {name: number for number, name in enumerate(self.loar.config.task_names)}
        table = torch.tensor([known.get(name, -1) for name in (*DOMAINS, "other")])
        return table.to(domains.device)[domains]

    def count_rows(self, batches: list[Any], device: torch.device) -> None:
        """Note the rows of an optimizer step over all processes, whose mean the balance is."""
        if self.loar is not None:
            self.count(sum(batch["input_ids"].shape[0] for batch in batches), device)

    def count(self, number: int, device: torch.device) -> None:
        """The same from this process's number of rows."""
        if self.loar is not None:
            rows = torch.tensor(number, device=device)
            self.loar.rows = int(self._accelerator.gather(rows).sum())
            self.loar.processes = self._accelerator.num_processes

    def for_domains(self, domains: Sequence[str | None]) -> AbstractContextManager[None]:
        """Inside it the model generates for these domains, one a row."""
        tasks = self.loar is not None and self.loar.config.task_names
        return self.loar.task(domains) if tasks else nullcontext()  # type: ignore[union-attr, arg-type]

    def save(self, folder: str) -> None:
        """Write its files beside the model's."""
        if self.loar is not None and is_first_process():
            self.loar.save_pretrained(folder)

    def load(self, folder: str) -> None:
        """Read its weights from a checkpoint.

        Raises:
            ValueError: if the checkpoint has none.
        """
        if self.loar is None:
            return
        path = Path(folder, WEIGHTS_FILE)
        if not path.is_file():
            raise ValueError(f"{folder} has no {WEIGHTS_FILE}: it is a checkpoint of a training without LoAR.")
        self.loar.load_weights(path)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.loar is not None
        scaler = self._accelerator.scaler
        self.loar.progress = state.global_step / max(state.max_steps, 1)
        self.loar.loss_scale = 1.0 if scaler is None else float(scaler.get_scale())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.loar is not None
        loar, accelerator = self.loar, self._accelerator
        loar.update_usage(reduce=accelerator.reduce if accelerator.num_processes > 1 else None)
        working = [loar.budget_now(layer) / loar.units for layer in range(len(loar.budgets))]
        self._metrics["train"]["heads_working"].append(sum(working) / len(working))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.loar is not None
        self.loar.progress = 1.0


class RoutedForward:
    """A model that is called with labels and tells its routers where the prompts end, and the tasks of the rows.

    Args:
        model: As it is called.
        routing: Its LoAR; `row_domains` are those of the rows of all calls together, in order.
    """

    def __init__(self, model: Any, routing: Routing):
        self._model, self._routing, self._next = model, routing, 0

    def __call__(self, *args: Any, labels: torch.Tensor, **kwargs: Any) -> Any:
        kwargs[PROMPT_MASK] = before_first_label(labels)
        if self._routing.row_domains is not None:
            end = self._next + len(labels)
            kwargs[TASKS] = self._routing.tasks(self._routing.row_domains[self._next : end])
            self._next = end
        return self._model(*args, labels=labels, **kwargs)
