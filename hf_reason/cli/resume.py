"""Going on with a run that was stopped: from which checkpoint, and only under the same settings."""

import json
import logging
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def last_checkpoint(output_dir: str) -> str | None:
    """The newest complete checkpoint of a run, or `None`.

    A run that was killed while it saved leaves a folder without a readable `trainer_state.json`, which the Trainer
    writes last; such a folder is passed over.
    """
    folder = Path(output_dir)
    if not folder.is_dir():
        return None
    found = [
        (int(m.group(1)), path) for path in folder.iterdir() if (m := re.fullmatch(r"checkpoint-(\d+)", path.name))
    ]
    for step, path in sorted(found, reverse=True):
        try:
            if json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))["global_step"] == step:
                return str(path)
        except (OSError, ValueError, KeyError):
            pass
        logger.warning("%s is incomplete (the run was killed while it saved); an earlier one is used.", path)
    return None


# What may change when a run goes on: how long, what is logged, saved, evaluated and pushed, and where it runs.
_FREE_PREFIXES = (
    "logging_",
    "eval_",
    "save_",
    "hub_",
    "push_",
    "dataloader_",
    "per_device_eval",
    "load_best",
    "test_",
)
_FREE = {
    "output_dir",
    "max_steps",
    "num_train_epochs",
    "lr_scheduler_kwargs",
    "metric_for_best_model",
    "greater_is_better",
    "max_drop",
    "report_to",
    "run_name",
    "disable_tqdm",
    "resume_from_checkpoint",
    "use_cpu",
    "local_rank",
    "expected_world_size",
    "ddp_backend",
    "ddp_timeout",
    "log_level",
    "trackio_space_id",
    "project",
    "do_train",
    "do_eval",
    "do_predict",
    "prediction_loss_only",
    "bf16_full_eval",
    "fp16_full_eval",
    "batch_eval_metrics",
    "include_for_metrics",
}


def _settings(groups: Iterable[Any]) -> dict[str, str]:
    found = {}
    for group in groups:
        for item in fields(group):
            if item.init and item.name not in _FREE and not item.name.startswith(_FREE_PREFIXES):
                value = getattr(group, item.name, None)
                if isinstance(value, str | int | float | bool | list | dict | None):
                    found[item.name] = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return found


def same_settings_or_refuse(args: Any, *groups: Any) -> None:
    """Keep a run's settings in `run.json`, and refuse to go on with it under other ones.

    Args:
        args: The training arguments (for the output folder and the main process).
        *groups: The dataclasses with all arguments of the recipe, the training arguments among them.

    Raises:
        ValueError: if the output folder holds a run whose settings differ in what shapes the training.
    """
    path = Path(args.output_dir) / "run.json"
    now = _settings(groups)
    with args.main_process_first(desc="reading the settings"):
        if path.is_file() and (last_checkpoint(args.output_dir) or is_finished(args.output_dir)):
            before = json.loads(path.read_text(encoding="utf-8"))
            changed = [
                f"{name}: {before.get(name)} -> {now.get(name)}"
                for name in sorted(before.keys() & now.keys())
                if before[name] != now[name]
            ]
            if changed:
                raise ValueError(
                    f"{args.output_dir} holds a run with other settings ({'; '.join(changed[:5])}). Choose another "
                    "output_dir, or remove this one to start anew."
                )
        elif args.process_index == 0:
            # A run that failed before its first checkpoint has nothing to keep, a tokenizer of its data least of all.
            if path.is_file():
                shutil.rmtree(path.parent / "tokenizer", ignore_errors=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(now, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
            os.replace(partial, path)


def is_finished(output_dir: str) -> bool:
    """Whether a run was trained and evaluated to its end."""
    return Path(output_dir, "evaluation", "evaluation.json").is_file()


def train_or_go_on(trainer: Any) -> None:
    """Train, from the last complete checkpoint if there is one.

    A run that had reached `max_steps` when it was stopped only loads its weights: the Trainer would take a step more.
    """
    from transformers import TrainerState

    args = trainer.args
    checkpoint = args.resume_from_checkpoint or last_checkpoint(args.output_dir)
    if checkpoint is None:
        trainer.train()
        return
    if trainer.is_world_process_zero():
        print(f"Going on from {checkpoint}")
    state = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
    if 0 < args.max_steps <= state.global_step:
        trainer.state = state
        best = state.best_model_checkpoint if args.load_best_model_at_end else None
        trainer._load_from_checkpoint(best if best and Path(best).is_dir() else checkpoint)
        return
    trainer.train(resume_from_checkpoint=checkpoint)
