"""What each way of compressing a model costs: accuracy, steps, closed thoughts, bytes, speed, on the same problems.

    make demo STEP_REASONER=1                              (once: it makes the data and the models)
    python recipes/bench/bench_compression.py --models outputs/demo/demo --dataset_name outputs/demo/data \
        --domain math --max_completion_length 200

    python recipes/bench/bench_compression.py --models Qwen/Qwen2.5-0.5B-Instruct --dataset_name train.jsonl \
        --eval_dataset_name test.jsonl --text plain.txt --traces prepared --max_completion_length 512

Several `--models` are seeds of one model: the table has their mean and range, of a single one the interval of its
problems. Each variant is a run of `hf-reason prune` or `hf-reason quantize` without a gate; finished ones are not
repeated, and the whole model is measured once. Unknown arguments go to the runs.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import common

from hf_reason.cli.side_by_side import run_in_batches

GPTQ = {"method": "gptq"}
RECOVERED = {"recover_steps": 100}
ALL_WEIGHTS = {**RECOVERED, "recover_learning_rate": 1e-4}  # of the demo's models; a pretrained one breaks at it
# name -> (command, options); `TRACES` and `TEXT` stand for the data of the command line
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "int8": ("quantize", {"method": "int8"}),
    "NF4": ("quantize", {"method": "nf4"}),
    "GPTQ 4 bit, own chains": ("quantize", {**GPTQ, "calibration": "self"}),
    "GPTQ 4 bit, traces": ("quantize", {**GPTQ, "calibration": "traces"}),
    "GPTQ 4 bit, plain text": ("quantize", {**GPTQ, "calibration": "TEXT", "calibration_max_length": 512}),
    "GPTQ 3 bit, own chains": ("quantize", {**GPTQ, "bits": 3}),
    "GPTQ 3 bit, recovered": ("quantize", {**GPTQ, "bits": 3, **RECOVERED}),
    **{
        f"{percent}% zeros by {score}{', recovered' if steps else ''}": (
            "prune",
            {"ratio": percent / 100, "score": score, "scope": scope, **(ALL_WEIGHTS if steps else {})},
        )
        for percent in (10, 20, 40)
        for score, scope in (("magnitude", "matrix"), ("activations", "row"))
        for steps in (False, True)
    },
    "2:4 zeros": ("prune", {"pattern": "2:4", "score": "activations"}),
    "2:4 zeros, recovered": ("prune", {"pattern": "2:4", "score": "activations", **ALL_WEIGHTS}),
    "one group less": ("prune", {"num_key_value_heads": "GROUPS"}),
    "one group less, recovered": ("prune", {"num_key_value_heads": "GROUPS", **ALL_WEIGHTS}),
}
COLUMNS = {
    "answer_accuracy": "answer accuracy",
    "step_accuracy": "step accuracy",
    "close_rate": "close rate",
    "first_wrong_step": "first wrong step",
    "tokens_to_answer": "tokens to the answer",
    "perplexity": "perplexity",
    "disk_bytes": "MB",
    "tokens_per_second": "tokens/s",
}


def command_of(model: Path, output: Path, name: str, args: Any, extra: Sequence[str]) -> list[str]:
    command, options = VARIANTS[name]
    values = dict(options)
    data = args.dataset_name
    if values.get("calibration") == "TEXT":
        values["calibration"] = args.text
    if values.get("calibration") == "traces" and args.traces is not None:
        data = args.traces
    if values.get("method") == "gptq" and args.group_size is not None:
        values["group_size"] = args.group_size
    if "num_key_value_heads" in values:
        config = json.loads((model / "config.json").read_text("utf-8"))
        values["num_key_value_heads"] = config["num_key_value_heads"] - 1
    if args.eval_dataset_name is not None:
        values["eval_dataset_name"] = args.eval_dataset_name
    where = {"model_name_or_path": model, "dataset_name": data, "output_dir": output, "max_records": args.max_records}
    free = {"max_drop": 100, "min_close_rate": 0, "cache_dir": args.output_dir / "cache"}
    return common.command(command, None, {**where, **values, **free}, extra)


def chosen(name: str, part: str) -> bool:
    """A whole name means that variant only, anything else all whose names hold it."""
    return name == part if part in VARIANTS else part in name


def report_of(output: Path) -> Any:
    path = output / "compression.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def cell(name: str, values: Sequence[float | None], single: Mapping[str, Any]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    if name == "disk_bytes":
        return f"{statistics.fmean(known) / 1e6:.2f}"
    rate = name in ("answer_accuracy", "step_accuracy", "close_rate")
    form = ".1%" if rate else ".2f" if max(known) < 10 else ".1f"
    if len(known) > 1:
        return common.mean_and_range(known, form)
    if name == "answer_accuracy" and single.get("answer_accuracy_low") is not None:
        return f"{known[0]:.1%} ({single['answer_accuracy_low']:.1%}-{single['answer_accuracy_high']:.1%})"
    return f"{known[0]:{form}}"


def row(name: str, found: Sequence[Mapping[str, Any]], reports: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [cell(key, [figures[key] for figures in found], found[0]) for key in COLUMNS]
    tests = [f"-{report['lost']}/+{report['won']} (p {report['p_value']:.2f})" for report in reports]
    return [name, *cells, "; ".join(tests) or "-"]


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="Folders: one model, or seeds of it.")
    parser.add_argument("--dataset_name", required=True, help="Prepared data, or questions and answers.")
    parser.add_argument("--eval_dataset_name", help="What the models are compared on, if it is other data.")
    parser.add_argument("--text", type=Path, help="Plain text for the calibration on text.")
    parser.add_argument("--traces", help="Prepared data for the calibration on traces, if dataset_name has none.")
    parser.add_argument("--group_size", type=int, help="Of the GPTQ variants; small models have short rows.")
    parser.add_argument("--max_records", type=int, default=200)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/bench_compression"))
    parser.add_argument("--only", nargs="+", default=[], help="Variants by name, or by a part of their names.")
    parser.add_argument("--table", action="store_true", help="Print the table of what is finished; run nothing.")
    args, extra = parser.parse_known_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    names = [name for name in VARIANTS if not args.only or any(chosen(name, part) for part in args.only)]
    if args.text is None:
        names = [name for name in names if VARIANTS[name][1].get("calibration") != "TEXT"]
    outputs = {
        (name, model): args.output_dir / f"{common.slug(name)}-{number}"
        for name in names
        for number, model in enumerate(args.models)
    }
    for (name, model), output in outputs.items() if not args.table else ():
        if report_of(output) is None:
            words = command_of(model, output, name, args, extra)
            run_in_batches({f"{name}, {model.name}": (words, output.with_suffix(".log"))}, 1)
    rows: list[list[str]] = []
    whole: list[Any] = []
    for name in names:
        reports = [found for model in args.models if (found := report_of(outputs[name, model])) is not None]
        if reports:
            whole = max(whole, [report["before"] for report in reports], key=len)
            rows.append(row(name, [report["after"] for report in reports], reports))
    if rows:
        columns = ["", *COLUMNS.values(), "lost/won (McNemar)"]
        common.print_markdown(columns, [row("the whole model", whole, []), *rows])


if __name__ == "__main__":
    main()
