"""Finding the checkpoint to go on from."""

import json
import logging
import re
from pathlib import Path

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
