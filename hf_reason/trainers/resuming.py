"""From which checkpoint a run that was stopped goes on: the newest complete one, and not beyond its last step."""

import json
import logging
import re
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
        if step_of(path) == step:
            return str(path)
        logger.warning("%s is incomplete (the run was killed while it saved); an earlier one is used.", path)
    return None


def step_of(folder: Path) -> int | None:
    """The step at which a checkpoint or a trained model was saved."""
    try:
        return int(json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["global_step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def train_or_resume(trainer: Any) -> None:
    """Train, from the last complete checkpoint if there is one.

    SIGTERM ends it after the step that is running, with a checkpoint. A run that had reached `max_steps` when it was
    stopped only loads its weights: the Trainer would train a step more.

    Raises:
        Terminated: after SIGTERM.
    """
    from transformers import TrainerState

    from .termination import saving_when_terminated

    args = trainer.args
    checkpoint = args.resume_from_checkpoint or last_checkpoint(args.output_dir)
    if checkpoint is None:
        with saving_when_terminated(trainer):
            trainer.train()
        return
    if trainer.is_world_process_zero():
        print(f"Resuming from {checkpoint}")
    state = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
    if 0 < args.max_steps <= state.global_step:
        trainer.state = state
        best = state.best_model_checkpoint if args.load_best_model_at_end else None
        trainer._load_from_checkpoint(best if best and Path(best).is_dir() else checkpoint)
        return
    with saving_when_terminated(trainer):
        trainer.train(resume_from_checkpoint=checkpoint)
