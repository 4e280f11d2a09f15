"""The sections of a model card: figures, data and limitations as Markdown, from what the pipeline reports."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

from hf_reason.data.record import DOMAINS
from hf_reason.evaluation.report import Results, lacks, most_records, overview_rows
from hf_reason.evaluation.result import EvaluationResult, GroupResult, as_models, group_names

GROUPS = {"by_num_steps": "steps of the reference", "by_domain": "domain"}
_LANGUAGE_NAMES = {"zh": "Chinese", "en": "English", "mixed": "mixed", "other": "other"}
# A close-rate below, or a repeat-rate above, is a limitation that the card names.
_CLOSE_RATE, _REPEAT_RATE = 0.95, 0.02
# Settings of generation that say nothing about how the outputs were chosen.
_TECHNICAL = ("eos_token_id", "pad_token_id", "bos_token_id", "use_cache", "remove_invalid_values")
_SAMPLING = ("temperature", "top_p", "top_k")


def markdown_table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; cells may hold anything, first column left, the others right."""
    lines = [[escape_cell(cell) for cell in row] for row in (header, *rows)]
    rule = [":---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def escape_cell(value: Any) -> str:
    """One line that Markdown shows as it is inside a table."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    for plain, escaped in (("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("*", "\\*"), ("`", "\\`")):
        text = text.replace(plain, escaped)
    return one_line(text)


def _text(value: Any) -> str:
    value = value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(_text, sorted(value, key=str) if isinstance(value, set | frozenset) else value))
    return str(value)


def settings_table(settings: Mapping[str, Any]) -> str:
    """The settings of a training; empty if none of them is set. Lists and dictionaries are written out."""
    rows = [(name, _text(value)) for name, value in settings.items() if value is not None]
    return markdown_table(("setting", "value"), rows) if rows else ""


def code_span(text: str) -> str:
    """A name as Markdown code, which ends at the next backtick."""
    return f"`{one_line(text).replace('`', chr(39))}`"


def one_line(text: str) -> str:
    """`text` with every run of white space, line breaks included, as one space."""
    return " ".join(text.split())


def result_columns(results: Results | Sequence[Results] | None) -> tuple[dict[str, EvaluationResult], int]:
    """Results by column, this model first, and the number of training seeds behind it (0: no results)."""
    if not results:
        return {}, 0
    if isinstance(results, Mapping):
        return as_models(results), 1
    runs = list(as_models({f"seed {number}": single for number, single in enumerate(results, start=1)}).values())
    if len(runs) == 1:
        return {"model": runs[0]}, 1
    ways: dict[str, Callable[[Sequence[float]], float]] = {"mean": fmean, "lowest": min, "highest": max}
    plain = [run.to_dict() for run in runs]
    return {name: EvaluationResult.from_dict(_combine(plain, how)) for name, how in ways.items()}, len(runs)


def _combine(values: Sequence[Any], how: Callable[[Sequence[float]], float]) -> Any:
    """The same nested figures of several runs as one; what is not a number stays if all agree, else None."""
    if all(isinstance(value, Mapping) for value in values):
        # Histograms of several runs have different bins.
        left_out = ("predictions", "histogram")
        names = [name for name in dict.fromkeys(name for value in values for name in value) if name not in left_out]
        return {name: _combine([value.get(name) for value in values], how) for name in names}
    if all(value == values[0] for value in values):
        return values[0]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return how(numbers) if len(numbers) == len(values) else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def accuracy_with_interval(figures: GroupResult | None, word: str = "") -> str:
    """ "62.0% (58.1 - 65.7)"; `word` names the interval. "-" where there is no accuracy."""
    if figures is None:
        return "-"
    interval, text = figures.answer_accuracy_ci, _percent(figures.answer_accuracy)
    between = f"{word} {100 * interval[0]:.1f} - {100 * interval[1]:.1f}".strip() if interval else ""
    return f"{text} ({between})" if between else text


def measured(main: EvaluationResult, seeds: int, eval_dataset: str) -> str:
    """How the figures came about: on which records, how often, with which prompts and settings."""
    lines = [
        f"Measured on {escape_cell(eval_dataset)}: {main.num_records} records x {main.num_samples} sample(s) each, "
        f"{seeds} training seed(s)"
        + (", the most frequent answer of each record scored" if main.vote else "")
        + f", prompt template `{main.template_hash}` (the prompt builder of training and serving)."
    ]
    shown = {
        name: value
        for name, value in main.generation.items()
        if value is not None and name not in _TECHNICAL and not name.startswith("output_")
    }
    if shown.get("do_sample") is False:
        shown = {name: value for name, value in shown.items() if name not in _SAMPLING}
    if shown:
        settings = ", ".join(f"{name} {value}" for name, value in shown.items())
        lines.append(f"Generation: {escape_cell(settings)}; seed {main.seed}.")
    return " ".join(lines)


def results_tables(columns: Mapping[str, EvaluationResult]) -> dict[str, Any]:
    """`overview`: a table; `notes`: why a figure in it is "-"; `groups`: title and table of each way to group."""
    # report.py indents what belongs to the row above; Markdown would drop the blanks
    rows = [(row.label.replace("  ", "— ", 1), *cells) for row, cells in overview_rows(columns)]
    groups = []
    for group, title in GROUPS.items():
        names = group_names(columns, group)
        table = [_group_row(columns, group, name) for name in names]
        if table:
            groups.append({"title": title, "table": markdown_table((title, "records", *columns), table)})
    notes = [escape_cell(line) for line in lacks(columns)]
    return {"overview": markdown_table(("", *columns), rows), "notes": notes, "groups": groups}


def _group_row(columns: Mapping[str, EvaluationResult], group: str, name: str) -> tuple[Any, ...]:
    found = [single[group].get(name) for single in columns.values()]
    return (name, most_records(found), *map(accuracy_with_interval, found))


def plot(name: str) -> dict[str, str]:
    """Address and title of a picture; ValueError unless `name` is a path relative to the card."""
    if name.startswith("/") or ":" in name or "\\" in name or ".." in name.split("/"):
        raise ValueError(
            f"plot {name!r} is not a path relative to the card; copy it beside the card and pass its name."
        )
    return {"file": quote(name), "title": Path(name).stem.replace("_", " ")}


def data_tables(report: Mapping[str, Any]) -> dict[str, Any]:
    """A preparation's `report.json`, or the `augment.json` of what was made of it, as a sentence and tables."""
    if "preparation" in report:
        before = data_tables(report["preparation"])
        made = [f"{name.replace('_', ' ')} ({one['made']})" for name, one in report["counts"]["operations"].items()]
        before["text"] += f" More training records were made of them: {', '.join(made)}; domains are those before it."
        return before | {"splits": markdown_table(("split", "records"), report["splits"].items())}
    counts = report["counts"]
    removed = [(name.replace("_", " "), count) for name, count in counts["filters"].items() if count]
    lengths = report.get("distributions", {})
    text = f"{counts['in']} raw traces were read, {counts['out']} records were kept"
    text += f" (preparation `{report['fingerprint']}`)." if report.get("fingerprint") else "."
    if lengths.get("steps") and lengths.get("chain"):
        steps, chain = lengths["steps"], lengths["chain"]
        text += f" Median {steps['p50']} steps and {chain['p50']} characters a chain (95% under {chain['p95']})."
    languages = [f"{_LANGUAGE_NAMES.get(k, k)} {n}" for k, n in report.get("languages", {}).items() if n]
    text += f" Languages: {', '.join(languages)}." if languages else ""
    splits = report.get("splits", {})
    found = {name: row for name, row in report.get("domains", {}).items() if row.get("all")}
    ordered = sorted(found, key=lambda name: (name not in DOMAINS, -found[name]["all"]))
    by_domain = [(name, *(found[name].get(column, 0) for column in ("all", *splits))) for name in ordered]
    return {
        "text": text,
        "splits": markdown_table(("split", "records"), splits.items()),
        "filters": markdown_table(("filter", "records"), removed) if removed else "",
        "domains": markdown_table(("domain", "all", *splits), by_domain) if by_domain else "",
        "warnings": [escape_cell(warning) for warning in report.get("warnings", ())],
    }


def limitations_of(main: EvaluationResult | None, seeds: int) -> list[str]:
    """What the figures themselves say against the model."""
    found = ["A step that reads well can be wrong; check results before you rely on them."]
    if main is None:
        return [*found, "No evaluation was run."]
    if seeds == 1:
        found.append("One training seed: how much the figures change from run to run is not known.")
    closed, repeats = main.close_rate, main.repeat_rate
    if closed is not None and closed < _CLOSE_RATE:
        found.append(f"Only {_percent(closed)} of the outputs close their thought within the token limit.")
    if repeats is not None and repeats > _REPEAT_RATE:
        found.append(f"{_percent(repeats)} of the outputs repeat themselves.")
    return found
