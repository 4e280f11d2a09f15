"""The figures of a model before any compression, by the gate's evaluator on the gate's problems."""

import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

from hf_reason._files import write_json_atomically
from hf_reason.cli.compression_arguments import CompressionArguments

FIGURES, EVALUATION = "figures.json", "evaluation"
_SPEED = {"batch_size", "use_cpu", "trust_remote_code", "output_dir", "cache_dir", "max_drop", "min_close_rate"}
_CALIBRATION = {"calibration", "calibration_records", "calibration_max_length"}


def settings_of(args: CompressionArguments, model: str) -> dict[str, Any]:
    """What the figures depend on."""
    values = {item.name: getattr(args, item.name) for item in fields(CompressionArguments)}
    kept = {name: value for name, value in values.items() if name not in _SPEED | _CALIBRATION}
    return {**kept, "model_name_or_path": model}


def known_figures(folder: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The figures in a folder, if they were measured with these settings."""
    path = folder / FIGURES
    if not path.is_file():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    return stored["figures"] if stored["settings"] == settings else None


def measure_stage(file: str) -> None:
    """Measure a model.

    Args:
        file: JSON: `arguments` of `CompressionArguments`, `folder` for figures and report, and `settings`, which are
            kept beside the figures.
    """
    from hf_reason.cli.compressing import Compression
    from hf_reason.compression.gate import figures
    from hf_reason.evaluation import save_report

    task = json.loads(Path(file).read_text(encoding="utf-8"))
    args, folder = CompressionArguments(**task["arguments"]), Path(task["folder"])
    run = Compression.begin("measure", args)
    if run is None:  # the folder of its stages never becomes an output
        return
    found = run.measured(args.model_name_or_path)
    save_report(found.result, folder / EVALUATION)
    write_json_atomically(folder / FIGURES, {"settings": task["settings"], "figures": figures(found)})
    shutil.rmtree(run.work, ignore_errors=True)
