"""What an evaluation says, for people: a table in the terminal, JSON and PNG files in a folder."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_reason._files import write_atomically

Results = Mapping[str, Any]

# (row, path into the results, how it is written)
_ROWS = (
    ("answer accuracy", ("answer_accuracy",), "percent"),
    ("  95% interval", ("answer_accuracy_ci",), "interval"),
    ("step accuracy", ("step_accuracy",), "percent"),
    ("  equations hold", ("equations_hold",), "percent"),
    ("  steps with an equation", ("checkable_share",), "percent"),
    ("key-node coverage", ("key_node_coverage",), "percent"),
    ("tokens until the answer, mean", ("reasoning_length", "mean_tokens"), "number"),
    ("  median", ("reasoning_length", "median_tokens"), "number"),
    ("  95th percentile", ("reasoning_length", "p95_tokens"), "number"),
    ("steps until the answer, mean", ("reasoning_length", "mean_steps"), "number"),
    ("thought closed", ("close_rate",), "percent"),
    ("output loops", ("repeat_rate",), "percent"),
    ("Chinese in Chinese outputs", ("language_ratio",), "percent"),
    ("accuracy with a distractor", ("distracted_accuracy",), "percent"),
    ("distractor resistance", ("distractor_resistance",), "ratio"),
    ("records x samples", (), "count"),
)


def as_models(results: Results) -> dict[str, Results]:
    """Results of one model, or of several by name, as results by name."""
    if "answer_accuracy" in results:
        return {"model": results}
    for name, single in results.items():
        if not isinstance(single, Mapping) or "answer_accuracy" not in single:
            raise ValueError(
                f"{name!r} does not hold results. Pass what evaluate_model returns, or a dict name -> such results."
            )
    return dict(results)


def _value(results: Results, path: tuple[str, ...]) -> Any:
    value: Any = results
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _cell(results: Results, path: tuple[str, ...], style: str, base: Results | None) -> str:
    if style == "count":
        return f"{results['num_records']} x {results['num_samples']}"
    value = _value(results, path)
    if value is None:
        return "-"
    if style == "interval":
        return f"{100 * value[0]:.1f} - {100 * value[1]:.1f}"
    scale, digits, unit = {"percent": (100, 1, "%"), "number": (1, 1, ""), "ratio": (1, 3, "")}[style]
    text = f"{scale * value:.{digits}f}{unit}"
    before = None if base is None or base is results else _value(base, path)
    return text if before is None else f"{text} ({scale * (value - before):+.{digits}f})"


def format_table(results: Results, baseline: str | Results | None = None, width: int | None = None) -> str:
    """The figures as text tables: over all records, then accuracy by number of steps and by domain.

    Args:
        results: What `evaluate_model` returns, or a dict name -> such results for several models side by side.
        baseline: The model that the others are compared with (differences stand in brackets): its name in
            `results`, or results of its own, which become the column "baseline".
        width: Characters a line; as wide as needed by default.

    Raises:
        ValueError: if `results` holds something else, or `baseline` is not one of the names.
    """
    from io import StringIO

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    models = as_models(results)
    if isinstance(baseline, Mapping):
        models = {"baseline": baseline, **models}
        baseline = "baseline"
    if baseline is not None and baseline not in models:
        raise ValueError(f"baseline {baseline!r} is not among the models {', '.join(models)}.")
    base = None if baseline is None else models[baseline]

    # Names come from paths, which may hold brackets.
    headers = [escape(name) for name in models]
    overview = Table("", *headers, title="Evaluation", title_justify="left")
    for label, path, style in _ROWS:
        cells = [_cell(single, path, style, base) for single in models.values()]
        if any(cell != "-" for cell in cells):
            overview.add_row(label, *cells)
    tables = [overview]
    for group, title in (("by_num_steps", "steps of the reference"), ("by_domain", "domain")):
        table = Table(title, "records", *headers, title=f"Answer accuracy by {title}", title_justify="left")
        for name in group_names(models, group):
            rows = [single.get(group, {}).get(name, {}) for single in models.values()]
            bases = None if base is None else base.get(group, {}).get(name)
            cells = [_cell(row, ("answer_accuracy",), "percent", bases) for row in rows]
            table.add_row(escape(name), str(max(row.get("num_records", 0) for row in rows)), *cells)
        tables.append(table)
    for table in tables:
        for column in table.columns[1:]:
            column.justify = "right"
    stream = StringIO()
    console = Console(file=stream, width=width or 1000, color_system=None, force_terminal=False)
    for table in tables:
        console.print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def group_names(models: Mapping[str, Results], group: str) -> list[str]:
    """The groups of all models, numbers of steps in their order."""
    names = list(dict.fromkeys(name for single in models.values() for name in single.get(group, {})))
    if group == "by_num_steps":
        names.sort(key=lambda name: int(name.rstrip("+").split("-")[0]))
    return names


def save_report(results: Results, output_dir: str | os.PathLike[str]) -> dict[str, Path]:
    """Write `evaluation.json` and the plots; with predictions in the results also `predictions.jsonl`.

    Args:
        results: As for `format_table`.
        output_dir: Made if it is missing. Files of the same names are replaced, each in one move.

    Returns:
        The paths: "json", "predictions" (if there are any), "accuracy_by_num_steps", "accuracy_by_domain",
        "reasoning_length".
    """
    from .plots import draw_plots

    models = as_models(results)
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"model": name, **prediction}, ensure_ascii=False) + "\n"
        for name, single in models.items()
        for prediction in single.get("predictions", ())
    ]
    slim = {name: {k: v for k, v in single.items() if k != "predictions"} for name, single in models.items()}
    paths = {"json": folder / "evaluation.json"}
    data: Any = slim["model"] if "answer_accuracy" in results else slim
    write_atomically(paths["json"], json.dumps(data, ensure_ascii=False, indent=2).encode() + b"\n")
    if lines:
        paths["predictions"] = folder / "predictions.jsonl"
        write_atomically(paths["predictions"], "".join(lines).encode())
    for name, image in draw_plots(models).items():
        paths[name] = folder / f"{name}.png"
        write_atomically(paths[name], image)
    return paths
