"""What `compress` shows and leaves: the table of all stages, the report and the card of the last model."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_reason._files import write_json_atomically
from hf_reason._private import public
from hf_reason.cli.compression_arguments import CompressionArguments

from .sections import Stage

REPORT = "compression.json"


@dataclass(frozen=True)
class Column:
    """A model of the table.

    Attributes:
        name: `teacher`, or the stage that made it.
        figures: As the gate compares them.
        folder: Where its `evaluation/` is.
    """

    name: str
    figures: dict[str, float | None]
    folder: Path


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a compression; empty if there is none."""
    path = folder / REPORT
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _rows(columns: Sequence[Column]) -> list[tuple[str, ...]]:
    from hf_reason.compression.gate import columns_table

    return columns_table({column.name: column.figures for column in columns})


def print_table(columns: Sequence[Column]) -> None:
    """The table of the models so far."""
    from hf_reason.compression.gate import format_rows

    print(f"\n{format_rows(_rows(columns))}\n", flush=True)


def write_result(
    args: CompressionArguments, stages: Sequence[Stage], columns: Sequence[Column], folder: Path, output: Path
) -> None:
    """Copy the last model to `output` with the report and the card of the whole path, all of it or nothing.

    Args:
        args: Of the path.
        stages: What was done.
        columns: A model each, in order.
        folder: Of the stages.
        output: The folder of the result.
    """
    from hf_reason.cli.finish import NOT_PUSHED
    from hf_reason.evaluation import load_report, save_report
    from hf_reason.evaluation.model_card.build import build_model_card

    half = folder / "result.tmp"
    shutil.rmtree(half, ignore_errors=True)
    last = columns[-1]
    made = folder / stages[-1].name
    left_out = [pattern.partition("/")[0] for pattern in NOT_PUSHED]
    shutil.copytree(made, half, ignore=shutil.ignore_patterns(*left_out, "evaluation", REPORT, "README.md"))
    measured = load_report(last.folder / "evaluation")["model"]
    measured.predictions = _predictions(last)
    written = save_report(measured, half / "evaluation")
    reports = {stage.name: read_report(folder / stage.name) for stage in stages if stage.name != "distill"}
    settings = _settings(stages, reports)
    notes = [sentence for name, report in reports.items() for sentence in _verdict(name, report)]
    paired = _against_first(columns)
    if paired is not None:
        notes.append(
            f"{last.name} against {columns[0].name}: {paired['lost']} right answers are lost and {paired['won']} are "
            f"won (McNemar's exact test: p = {paired['p_value']:.3f})."
        )
    report = {
        "command": "compress",
        "teacher": public(args.model_name_or_path),
        "settings": settings,
        "models": {column.name: column.figures for column in columns},
        "stages": reports,
        "against_teacher": paired if columns[0].name == "teacher" else None,
        "passed": True,
    }
    write_json_atomically(half / REPORT, report)
    card = build_model_card(
        model_name=output.name,
        base_model=args.model_name_or_path,
        settings=settings,
        results=measured,
        plots=[path.relative_to(half).as_posix() for path in written.values() if path.suffix == ".png"],
        adapter=(half / "adapter_config.json").is_file(),
        compression={"rows": _rows(columns), "notes": notes},
    )
    (half / "README.md").write_text(card, encoding="utf-8")
    output.parent.mkdir(parents=True, exist_ok=True)
    os.replace(half, output)
    print("\n".join([*notes, f"Model, report and card: {output} (the stages are in {folder})"]))


def _settings(stages: Sequence[Stage], reports: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the card shows, by `stage.name`."""
    found: dict[str, Any] = {}
    for stage in stages:
        shown = reports.get(stage.name, {}).get("settings", stage.given)
        found |= {f"{stage.name}.{name}": public(value) for name, value in shown.items() if value is not None}
    return found


def _verdict(name: str, report: dict[str, Any]) -> list[str]:
    from hf_reason.compression import Comparison
    from hf_reason.compression.gate import verdict

    values = {key: value for key, value in report.items() if key not in ("command", "settings", "passed")}
    return [f"{name}: {sentence}" for sentence in verdict(Comparison(**values))]


def _predictions(column: Column) -> list[dict[str, Any]]:
    """What a model answered, as the report of its evaluation keeps it."""
    path = column.folder / "evaluation" / "predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    return [{name: value for name, value in row.items() if name != "model"} for row in rows]


def _against_first(columns: Sequence[Column]) -> dict[str, Any] | None:
    """The paired comparison of the last model with the first; `None` if they were not asked the same."""
    from hf_reason.compression.gate import mcnemar

    first, last = _predictions(columns[0]), _predictions(columns[-1])
    keys = ("id", "sample", "reference")
    if len(columns) < 2 or not first or [[r[k] for k in keys] for r in first] != [[r[k] for k in keys] for r in last]:
        return None
    pairs = [(bool(then["correct"]), bool(now["correct"])) for then, now in zip(first, last, strict=True)]
    lost, won = sum(b and not a for b, a in pairs), sum(a and not b for b, a in pairs)
    return {"lost": lost, "won": won, "p_value": mcnemar(lost, won)}
