"""Figures of a model and its own chains, kept under a name that says what they depend on.

Compressions of one model with the same `cache_dir` measure it once, and ask it for its chains once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hf_reason._files import digest, file_digest, write_json_atomically
from hf_reason.cli.compression_arguments import CompressionArguments
from hf_reason.compression.gate import Measured

_CONFIGS = ("config.json", "adapter_config.json", "loar_config.json", "generation_config.json", "tokenizer.json")


def model_digest(name: str) -> str:
    """A hash of the weights, configs and tokenizer in a folder; of the name, for a model on the Hub."""
    folder = Path(name)
    if not folder.is_dir():
        return digest(name)
    files = sorted([*folder.glob("*.safetensors"), *(folder / config for config in _CONFIGS)])
    return file_digest(*(path for path in files if path.is_file()))


def measured_file(
    folder: Path, name: str, records: Sequence[Mapping[str, Any]], template: str, args: CompressionArguments
) -> Path:
    """Where the figures of a model are kept: its weights, the problems and how it generates give the name.

    The batch size is no part of it: it changes the speed, and rounding alone.
    """
    base = json.loads(Path(name, "adapter_config.json").read_text("utf-8")) if _is_adapter(name) else {}
    whole = model_digest(str(base.get("base_model_name_or_path", "")))
    how = [args.max_completion_length, args.thinking, args.dtype, args.seed, args.tokenizer_name_or_path, template]
    problems = [json.dumps(dict(record), ensure_ascii=False, sort_keys=True, default=str) for record in records]
    return folder / f"measured-{digest(model_digest(name), whole, json.dumps(how), *problems)}.json"


def _is_adapter(name: str) -> bool:
    return Path(name, "adapter_config.json").is_file()


def read_measured(path: Path) -> Measured | None:
    """The figures in a file; `None` without one."""
    from hf_reason.evaluation import EvaluationResult

    if not path.is_file():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    return Measured(**{**stored, "result": EvaluationResult.from_dict(stored["result"])})


def write_measured(path: Path, found: Measured) -> None:
    """Keep figures."""
    values = {item.name: getattr(found, item.name) for item in fields(found)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomically(path, {**values, "result": found.result.to_dict()})
