"""The folders of `prune` and `quantize`: their stages, what is finished, what was begun with which settings."""

import json
from dataclasses import asdict
from pathlib import Path

from hf_reason._files import write_json_atomically

from .compression_arguments import CompressionArguments
from .publishing import PUSH_OPTIONS

SETTINGS = "settings.json"
REPORT = "compression.json"
# What may change when a compression is resumed: the gate, and where it runs. What pushes the result is not even kept.
_FREE = {"max_drop", "min_close_rate", "batch_size", "use_cpu", "cache_dir"}


def work_folder(args: CompressionArguments) -> Path:
    return Path(f"{args.output_dir.rstrip('/')}.partial")


def refused_folder(args: CompressionArguments) -> Path:
    return Path(f"{args.output_dir.rstrip('/')}-refused")


def is_compressed(args: CompressionArguments) -> bool:
    output, refused = Path(args.output_dir), refused_folder(args)
    if (output / REPORT).is_file():
        print(f"{output} is finished: nothing to do. Choose another output_dir, or remove it to start anew.")
        return True
    if output.is_dir() and any(output.iterdir()):
        raise ValueError(f"output_dir {output} has files of something else. Choose another output_dir.")
    if (refused / REPORT).is_file():
        raise ValueError(
            f"{refused} holds what this command made before, and the gate refused it. Remove it to compress again "
            "with other settings."
        )
    return False


def same_or_refuse(command: str, args: CompressionArguments) -> None:
    """Keep the settings in the folder of the stages; refuse a folder with a model that was made with other ones.

    Raises:
        ValueError: naming what differs.
    """
    work = work_folder(args)
    settings = {name: value for name, value in asdict(args).items() if name not in PUSH_OPTIONS}  # a token is secret
    path, values = work / SETTINGS, {"command": command, **settings}
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name in {**known, **values} if name not in _FREE and known.get(name) != values.get(name)]
        if changed and any((work / stage).is_dir() for stage in ("model", "pruned", "quantised", "whole")):
            raise ValueError(
                f"{work} was begun with {', '.join(f'{name}={known.get(name)}' for name in changed)}, not "
                f"{', '.join(f'{values.get(name)}' for name in changed)}. Use the same settings, another output_dir, "
                "or remove it."
            )
    work.mkdir(parents=True, exist_ok=True)
    write_json_atomically(path, values)
