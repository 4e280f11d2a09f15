"""`prepare`: turn raw traces into a data set for training, with a report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hf_reason._options import option
from hf_reason._renamed import renamed
from hf_reason._visible import visible
from hf_reason.cli.parsing.parser import parse
from hf_reason.data import FilterConfig
from hf_reason.data.prepare.settings import ENGINES, PrepareConfig

from .errors import on_interrupt


@renamed(input="dataset_name")
@dataclass
class PrepareArguments:
    """What is prepared, and where to."""

    dataset_name: list[str] = option(help="Files (JSON, JSONL, Parquet, CSV), folders of them or Hub data sets.")
    output_dir: str = option(help="Folder for the data set and its report.")
    num_proc: int = option(1, "Number of processes.")
    engine: str = option("local", "Where they run: here, or on a Ray cluster.", choices=ENGINES)
    overwrite: bool = option(False, "Replace a result that was made with other settings.")


CLASSES = (PrepareArguments, FilterConfig, PrepareConfig)


def main(argv: Sequence[str] | None = None) -> None:
    """Prepare; `argv` are the arguments after the command's name."""
    args: PrepareArguments
    args, _, config = parse("prepare", CLASSES, argv)
    from hf_reason.data import prepare

    on_interrupt(lambda: "The same command resumes where it stopped.")
    report = prepare(
        args.dataset_name,
        args.output_dir,
        config,
        num_proc=args.num_proc,
        engine=args.engine,
        overwrite=args.overwrite,
    )
    show(report, args.output_dir)


def show(report: dict[str, Any], output_dir: str) -> None:
    """Print what went in, what the filters removed, and what came out."""
    from rich.console import Console
    from rich.table import Table

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
        console.print("Note:", visible(warning), markup=False)
    console.print(f"Data set: {output_dir}   report: {output_dir}/report.html", markup=False)
