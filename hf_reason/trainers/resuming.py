"""From which checkpoint a run that was stopped goes on: the newest complete one, and not beyond its last step."""

import json
import logging
import re
from pathlib import Path
from typing import Any

from .checkpoint_parts import broken_part

logger = logging.getLogger(__name__)


def last_checkpoint(output_dir: str) -> str | None:
    """The newest complete checkpoint of a run, or `None`.

    A run that was killed while it saved leaves a folder without a readable `trainer_state.json`, which the Trainer
    writes last; such a folder is passed over, and so is one with a file that is missing or cut off.
    """
    for step, path in reversed(checkpoints_of(output_dir)):
        why = "the run was killed while it saved" if step_of(path) != step else broken_part(path)
        if why is None:
            return str(path)
        logger.warning("%s is incomplete (%s); an earlier one is used.", path, why)
    return None


def checkpoints_of(output_dir: str) -> list[tuple[int, Path]]:
    """Step and folder of every checkpoint of a run, complete or not, by step."""
    folder = Path(output_dir)
    if not folder.is_dir():
        return []
    found = ((re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in folder.iterdir())
    return sorted((int(match.group(1)), path) for match, path in found if match is not None)


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
