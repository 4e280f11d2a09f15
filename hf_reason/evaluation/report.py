"""What an evaluation says, for people: a table in the terminal, JSON and PNG files in a folder."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from hf_reason._files import write_atomically, write_json_atomically

from .result import EvaluationResult, GroupResult, as_models, group_names

Results = EvaluationResult | Mapping[str, Any]
EVALUATION_FILE = "evaluation.json"


@dataclass(frozen=True)
class Row:
    """A row of the overview.

    Attributes:
        label: Its title; two blanks in front put it under the row above.
        path: Attribute of the result, "." between levels.
        style: How it is written: "percent", "interval", "number", "ratio" or "count".
    """

    label: str
    path: str
    style: str

    def value(self, figures: GroupResult) -> Any:
        return attrgetter(self.path)(figures)


ACCURACY = Row("answer accuracy", "answer_accuracy", "percent")
ROWS = (
    ACCURACY,
    Row("  95% interval", "answer_accuracy_ci", "interval"),
    Row("step accuracy", "step_accuracy", "percent"),
    Row("  equations hold", "equations_hold", "percent"),
    Row("  steps with an equation", "checkable_share", "percent"),
    Row("key-node coverage", "key_node_coverage", "percent"),
    Row("tokens until the answer, mean", "reasoning_length.mean_tokens", "number"),
    Row("  median", "reasoning_length.median_tokens", "number"),
    Row("  95th percentile", "reasoning_length.p95_tokens", "number"),
    Row("steps until the answer, mean", "reasoning_length.mean_steps", "number"),
    Row("thought closed", "close_rate", "percent"),
    Row("output loops", "repeat_rate", "percent"),
    Row("Chinese in Chinese outputs", "language_ratio", "percent"),
    Row("accuracy with a distractor", "distracted_accuracy", "percent"),
    Row("distractor resistance", "distractor_resistance", "ratio"),
    Row("records x samples", "num_records", "count"),
)
_SCALES = {"percent": (100, 1, "%"), "number": (1, 1, ""), "ratio": (1, 3, "")}


def cell(figures: GroupResult | None, row: Row, base: GroupResult | None = None) -> str:
    """A figure as text, "-" where there is none; with the difference to `base` in brackets."""
    value = None if figures is None else row.value(figures)
    if value is None:
        return "-"
    if row.style == "count":
        assert isinstance(figures, EvaluationResult)
        return f"{value} x {figures.num_samples}" + (", by vote" if figures.vote else "")
    if row.style == "interval":
        return f"{100 * value[0]:.1f} - {100 * value[1]:.1f}"
    scale, digits, unit = _SCALES[row.style]
    text = f"{scale * value:.{digits}f}{unit}"
    before = None if base is None or base is figures else row.value(base)
    return text if before is None else f"{text} ({scale * (value - before):+.{digits}f})"


def lacks(models: Mapping[str, EvaluationResult]) -> list[str]:
    """A sentence for each figure that a model lacks, or has only for some of the records: why."""
    lines = []
    for row in ROWS:
        reasons: dict[str, list[str]] = {}
        for name, single in models.items():
            if (reason := _lack(single, row)) and not row.label.startswith(" "):
                reasons.setdefault(reason, []).append(name)
        for reason, names in reasons.items():
            where = "" if len(names) == len(models) else f" of {', '.join(names)}"
            lines.append(f"Note on {row.label}{where}: {reason}.")
    return lines


def _lack(figures: EvaluationResult, row: Row) -> str | None:
    return figures.lack(row.path.rpartition(".")[2])


def overview_rows(
    models: Mapping[str, EvaluationResult], base: GroupResult | None = None
) -> list[tuple[Row, list[str]]]:
    """The rows of the overview with a cell for each model; what was not measured in any of them is left out."""
    rows = [(row, [cell(single, row, base) for single in models.values()]) for row in ROWS]
    return [
        (row, cells)
        for row, cells in rows
        if any(text != "-" for text in cells) or any(_lack(single, row) for single in models.values())
    ]


def format_table(results: Results, baseline: str | Results | None = None, width: int | None = None) -> str:
    """The figures as text tables: over all records, then accuracy by number of steps and by domain.

    A figure that cannot be had is "-", and a line below the tables says why.

    Args:
        results: What `evaluate_model` returns, or a dict name -> such results for several models side by side.
        baseline: The model that the others are compared with (differences stand in brackets): its name in
            `results`, or results of its own, which become the column "baseline".
        width: Characters a line; as wide as needed by default.

    Raises:
        ValueError: if `results` has something else in it, or `baseline` is not one of the names.
    """
    from io import StringIO

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    models = as_models(results)
    if isinstance(baseline, Mapping):
        models = {"baseline": EvaluationResult.from_dict(baseline), **models}
        baseline = "baseline"
    if baseline is not None and baseline not in models:
        raise ValueError(f"baseline {baseline!r} is not among the models {', '.join(models)}.")
    base = None if baseline is None else models[baseline]

    # Names come from paths, which may have brackets in them.
    headers = [escape(name) for name in models]
    overview = Table("", *headers, title="Evaluation", title_justify="left")
    for row, cells in overview_rows(models, base):
        overview.add_row(row.label, *cells)
    tables = [overview]
    for group, title in (("by_num_steps", "steps of the reference"), ("by_domain", "domain")):
        table = Table(title, "records", *headers, title=f"Answer accuracy by {title}", title_justify="left")
        names = group_names(models, group)
        for name in names:
            found = [single[group].get(name) for single in models.values()]
            before = None if base is None else base[group].get(name)
            table.add_row(escape(name), str(most_records(found)), *(cell(one, ACCURACY, before) for one in found))
        if names:
            tables.append(table)
    for table in tables:
        for column in table.columns[1:]:
            column.justify = "right"
    stream = StringIO()
    console = Console(file=stream, width=width or 1000, color_system=None, force_terminal=False)
    for table in tables:
        console.print(table)
    return "\n".join([*(line.rstrip() for line in stream.getvalue().splitlines()), *lacks(models)])


def most_records(found: Sequence[GroupResult | None]) -> int:
    """Records of a group, in the model that has most of them."""
    return max((figures.num_records for figures in found if figures is not None), default=0)


def save_report(results: Results, output_dir: str | os.PathLike[str]) -> dict[str, Path]:
    """Write `evaluation.json` and the plots; with predictions in the results also `predictions.jsonl`.

    Args:
        results: As for `format_table`.
        output_dir: Made if it is missing. Files of the same names are replaced, each in one move.

    Returns:
        The paths: "json", "predictions" (if there are any), "accuracy_by_num_steps" (if a reference has steps),
        "accuracy_by_domain", "reasoning_length".
    """
    from .plots import draw_plots

    models = as_models(results)
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"model": name, **prediction}, ensure_ascii=False) + "\n"
        for name, single in models.items()
        for prediction in single.predictions or ()
    ]
    slim = {
        name: {key: value for key, value in single.to_dict().items() if key != "predictions"}
        for name, single in models.items()
    }
    paths = {"json": folder / EVALUATION_FILE}
    write_json_atomically(paths["json"], slim["model"] if "answer_accuracy" in results else slim)
    if lines:
        paths["predictions"] = folder / "predictions.jsonl"
        write_atomically(paths["predictions"], "".join(lines))
    for name, image in draw_plots(models).items():
        paths[name] = folder / f"{name}.png"
        write_atomically(paths[name], image)
    return paths


def load_report(path: str | os.PathLike[str]) -> dict[str, EvaluationResult]:
    """Read the results of `save_report` back, by model; a report of one model has the name "model".

    Args:
        path: The folder of a report, or its `evaluation.json`.

    Raises:
        ValueError: if there is no such file, or something else in it.
    """
    file = Path(path, EVALUATION_FILE) if os.path.isdir(path) else Path(path)
    if not file.is_file():
        raise ValueError(f"There is no evaluation in {path}: {EVALUATION_FILE} is missing.")
    try:
        return as_models(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is not an evaluation that save_report wrote: {error}") from error
