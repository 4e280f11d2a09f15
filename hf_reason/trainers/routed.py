"""Training a model that carries a LoAR: prompts and tasks for its routers, its budget, its balance, its files."""

from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from hf_reason._files import is_first_process
from hf_reason.data.record import DOMAINS
from hf_reason.models.loar.files import WEIGHTS_FILE
from hf_reason.models.loar.hooks import PROMPT_MASK, TASKS, before_first_label
from hf_reason.models.loar.model import LoAR, loar_of
from hf_reason.text.spans import DOMAIN_IDS, PROMPT


class _Progress(TrainerCallback):
    """Tells the routers how far the training is, and what the groups' usage was."""

    def __init__(self, trainer: "RoutedTrainerMixin"):
        self.trainer = trainer

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.trainer._loar is not None
        loar, scaler = self.trainer._loar, self.trainer.accelerator.scaler
        loar.progress = state.global_step / max(state.max_steps, 1)
        loar.loss_scale = 1.0 if scaler is None else float(scaler.get_scale())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.trainer._loar is not None
        loar, accelerator = self.trainer._loar, self.trainer.accelerator
        loar.update_usage(reduce=accelerator.reduce if accelerator.num_processes > 1 else None)
        working = [loar.budget_now(layer) / loar.groups for layer in range(len(loar.budgets))]
        self.trainer._metrics["train"]["heads_working"].append(sum(working) / len(working))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.trainer._loar is not None
        self.trainer._loar.progress = 1.0


class RoutedTrainerMixin:
    """Stands between the project's trainer and TRL's; without a LoAR on the model it does nothing."""

    _loar: LoAR | None = None
    accelerator: Any
    args: Any
    _metrics: Any

    def _init_routing(self, mixes: bool) -> None:
        """After the trainer is built.

        Raises:
            ValueError: if rows are packed or mixed.
        """
        self._loar = loar_of(self.accelerator.unwrap_model(self.model))  # type: ignore[attr-defined]
        if self._loar is None:
            return
        if self.args.packing or self.args.padding_free:
            raise ValueError("LoAR routes a row as one sequence: set packing=False and padding_free=False.")
        if mixes:
            raise ValueError("MixUp gives a row two prompts, and LoAR routes by one: set mixup_alpha=0.")
        for parameter in self._loar.parameters():
            parameter.requires_grad_(True)  # PEFT froze them with the base
        self.add_callback(_Progress(self))  # type: ignore[attr-defined]

    def _prepare_inputs(self, inputs: Any) -> Any:
        inputs = super()._prepare_inputs(inputs)  # type: ignore[misc]
        if self._loar is not None and "labels" in inputs:
            segments = inputs.get("segment_ids")
            # a piece of a split chain begins with steps that are no targets, and no prompt either
            prompt = before_first_label(inputs["labels"])
            inputs[PROMPT_MASK] = prompt if segments is None else ((segments != PROMPT).cumsum(dim=1) == 0) & prompt
            if self._loar.config.task_names and DOMAIN_IDS in inputs:
                known = {name: number for number, name in enumerate(self._loar.config.task_names)}
                table = torch.tensor([known.get(name, -1) for name in (*DOMAINS, "other")])
                inputs[TASKS] = table.to(prompt.device)[inputs[DOMAIN_IDS][:, 0]]
        return inputs

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)  # type: ignore[misc]
        if self._loar is not None:
            rows = torch.tensor(sum(batch["input_ids"].shape[0] for batch in batches), device=device)
            self._loar.rows = int(self.accelerator.gather(rows).sum())
            self._loar.processes = self.accelerator.num_processes
        return batches, count

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)  # type: ignore[misc]
        if self._loar is not None and is_first_process():
            self._loar.save_pretrained(output_dir or str(self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
        self._load_loar(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()  # type: ignore[misc]
        self._load_loar(self.state.best_model_checkpoint)  # type: ignore[attr-defined]

    def _load_loar(self, folder: str) -> None:
        if self._loar is not None:
            path = Path(folder, WEIGHTS_FILE)
            if not path.is_file():
                raise ValueError(f"{folder} holds no {WEIGHTS_FILE}: it is a checkpoint of a training without LoAR.")
            self._loar.load_weights(path)
