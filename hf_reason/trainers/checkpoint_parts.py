"""Whether the files of a checkpoint are all there and whole: what a full disk or a broken copy left is passed over."""

import json
import os
import struct
import time
import zipfile
from pathlib import Path

_WEIGHTS = ("*model*.safetensors", "*model*.bin")
# What is resumed together: a Trainer that lacks one of them goes on with a new one, without a word.
_TOGETHER = {"optimizer.pt": "optimizer.[pb]*", "scheduler.pt": "scheduler.pt"}
# Folders in which DeepSpeed and FSDP keep weights and optimizer.
_SHARDED = ("global_step*", "pytorch_model_fsdp_*", "optimizer_*")


def broken_part(checkpoint: Path) -> str | None:
    """What is missing or cut off in the folder of a checkpoint; `None` if nothing is.

    Sizes are compared with what the files say themselves; they are not read.
    """
    for index in checkpoint.glob("*.index.json"):
        missing = _missing_shards(index)
        if missing is not None:
            return missing
    for path in sorted(checkpoint.iterdir()):
        if path.suffix == ".safetensors" and not _is_whole_safetensors(path):
            return f"{path.name} is cut off"
        if path.suffix in (".pt", ".pth", ".bin") and path.is_file() and not _is_whole_pickle(path):
            return f"{path.name} is cut off"
    return _missing(checkpoint)


def _missing(checkpoint: Path) -> str | None:
    def has(pattern: str) -> bool:
        return next(checkpoint.glob(pattern), None) is not None

    state = [name for name, pattern in _TOGETHER.items() if has(pattern)]
    if any(map(has, _SHARDED)) or not (state or any(map(has, _WEIGHTS)) or has("config.json")):
        return None  # of another layout
    if not any(map(has, _WEIGHTS)):
        return "its weights are missing"
    if len(state) == 1:
        return f"{next(name for name in _TOGETHER if name not in state)} is missing"
    return "rng_state.pth is missing" if state and not has("rng_state*.pth") else None


def _missing_shards(index: Path) -> str | None:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        return f"{index.name} is cut off"
    missing = sorted(name for name in names if not (index.parent / name).is_file())
    return f"{missing[0]} is missing" if missing else None


def _is_whole_safetensors(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            size = path.stat().st_size
            if 8 + length > size:
                return False
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return 8 + length + max(ends, default=0) == size
    except (OSError, ValueError, KeyError, TypeError, IndexError, struct.error):
        return False


def _is_whole_pickle(path: Path) -> bool:
    """`torch.save` writes a zip file, whose table of contents is its end; other pickles pass."""
    try:
        with open(path, "rb") as file:
            begin = file.read(2)
        return begin != b"" and (begin != b"PK" or zipfile.is_zipfile(path))
    except OSError:
        return False


def put_in_order(checkpoints: list[Path]) -> None:
    """Give checkpoints whose time lies ahead of the clock times before it.

    `save_total_limit` removes those with the oldest time: after a clock that jumped back the one just saved.

    Args:
        checkpoints: In the order in which they were saved.
    """
    now = time.time()
    if any(path.stat().st_mtime > now for path in checkpoints):
        for seconds, path in enumerate(reversed(checkpoints), start=2):
            os.utime(path, (now - seconds, now - seconds))
