"""Turn raw distilled traces into a data set for training, with a report.

python recipes/prepare_data.py --input traces.jsonl more/ user/dataset-on-the-hub --output_dir prepared

Files (JSON, JSONL, Parquet, CSV), folders of them and Hub data sets are told apart by their columns. A run that was
killed goes on when it is called again. `--config FILE.yaml` holds any of the arguments below.
"""

import sys
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from trl import TrlParser

from hf_reason.data import DataError, FilterConfig, prepare


@dataclass
class PrepareArguments:
    input: list[str] = field(metadata={"help": "Files, folders or Hub data sets with raw traces."})
    output_dir: str = field(metadata={"help": "Folder for the data set and its report."})
    schema: str | None = field(default=None, metadata={"help": "Name of the layout; default: told by the columns."})
    history: str = field(default="drop", metadata={"help": "Earlier turns of a dialogue: drop, keep or split."})
    domain_rules: str | None = field(default=None, metadata={"help": "YAML file with domain rules of your own."})
    decontaminate: list[str] = field(
        default_factory=list, metadata={"help": "Evaluation files; records with their problems are taken out."}
    )
    duplicate_threshold: float = field(default=0.8, metadata={"help": "Least similarity of near duplicates."})
    validation_share: float = field(default=0.05, metadata={"help": "Share of the contexts for validation."})
    test_share: float = field(default=0.05, metadata={"help": "Share of the contexts for test."})
    num_proc: int = field(default=1, metadata={"help": "Number of processes."})
    skip_broken: bool = field(default=False, metadata={"help": "Count rows that cannot be read and go on."})
    overwrite: bool = field(default=False, metadata={"help": "Replace a result made with other settings."})


def show(report: dict[str, Any], output_dir: str) -> None:
    table = Table(title="Prepared data", title_justify="left")
    table.add_column("")
    table.add_column("records", justify="right")
    table.add_row("in", f"{report['counts']['in']:,}")
    for name, count in report["counts"]["filters"].items():
        if count:
            table.add_row(f"  - {name}", f"{count:,}", style="dim")
    table.add_row("out", f"{report['counts']['out']:,}", style="bold", end_section=True)
    for split, count in report["splits"].items():
        table.add_row(split, f"{count:,}")
    console = Console()
    console.print(table)
    for warning in report["warnings"]:
        console.print("Note:", warning, markup=False)
    console.print(f"Data set: {output_dir}   report: {output_dir}/report.html", markup=False)


def main() -> int:
    kinds: Any = (PrepareArguments, FilterConfig)
    parser = TrlParser(kinds, description="Turn raw distilled traces into a data set with a report.")
    for action in parser._actions:  # tuples of FilterConfig; on the command line they are lists
        if action.dest in ("languages", "skip"):
            action.type, action.nargs = str, "+"
    try:
        arguments, filters = parser.parse_args_and_config()
    except (ValueError, OSError) as error:
        parser.error(str(error))
    settings = dict(vars(arguments))
    try:
        report = prepare(settings.pop("input"), filters=filters, **settings)
    except DataError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    show(report, arguments.output_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
