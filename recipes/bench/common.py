"""What the benches share: options, runs of the command line, seeds, timing, memory and tables.

Importing this needs nothing but Python, so that `gpu_check.py` runs beside torch and transformers alone.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_reason.evaluation import EvaluationResult

# A student for the demo's teacher.
STUDENT = {
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
CONFIGS = Path(__file__).parents[1] / "configs"


# Options


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the bench's docstring."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_run_options(options: argparse.ArgumentParser, output_dir: str) -> None:
    """The options of a bench that trains: seeds, where the runs are kept, and how many run at a time."""
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--output_dir", type=Path, default=Path(output_dir))
    options.add_argument("--parallel", type=int, default=os.cpu_count() or 1, help="Runs at a time.")


def add_timing_options(options: argparse.ArgumentParser, repeats: int = 3) -> None:
    """The options of a bench that measures time."""
    options.add_argument("--repeats", type=int, default=repeats, help="Measurements of each side.")
    options.add_argument("--threads", type=int, default=0, help="Threads of torch; 0: its default.")
    options.add_argument("--json", type=Path, help="Write arguments and every single figure to this file.")


# Runs of the command line


def slug(name: str) -> str:
    """A name as part of a file name."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


def command(name: str, config: Path | None, values: Mapping[str, Any], extra: Sequence[str] = ()) -> list[str]:
    """Arguments of Python that run `hf-reason <name> --config <config>`; a list becomes several words."""
    words = [] if config is None else ["--config", str(config)]
    for option, value in values.items():
        items = value if isinstance(value, list | tuple) else [value]
        words += [f"--{option}", *map(str, items)]
    return ["-m", "hf_reason.cli", name, *words, *extra]


def is_finished(output: Path) -> bool:
    """Whether a run has been trained and evaluated."""
    return (output / "evaluation" / "evaluation.json").is_file()


def run_missing(jobs: Mapping[str, tuple[Path, Callable[[], list[str]]]], parallel: int) -> None:
    """Run the commands of the outputs that are not finished, `parallel` at a time; the log is beside the output."""
    from hf_reason.cli.side_by_side import run_in_batches

    missing = {
        name: (build(), output.with_suffix(".log"))
        for name, (output, build) in jobs.items()
        if not is_finished(output)
    }
    run_in_batches(missing, parallel)


def result_of(output: Path) -> "EvaluationResult":
    """The evaluation of a finished run."""
    from hf_reason.evaluation import EvaluationResult

    return EvaluationResult.from_dict(json.loads((output / "evaluation" / "evaluation.json").read_text("utf-8")))


def logged(output: Path, name: str) -> list[float]:
    """The values of a figure that a finished run has logged, in order."""
    history = json.loads((output / "trainer_state.json").read_text("utf-8"))["log_history"]
    return [row[name] for row in history if name in row]


def training_seconds(output: Path) -> float:
    """Of a finished run; of a resumed one, those of its last part."""
    return logged(output, "train_runtime")[-1]


# Figures of several seeds


def mean_and_values(values: Sequence[float], form: str = ".1f") -> str:
    """`mean (value, value, ...)`."""
    return f"{statistics.fmean(values):{form}} ({', '.join(f'{value:{form}}' for value in values)})"


def mean_and_range(values: Sequence[float], form: str = ".1%") -> str:
    """`mean (lowest-highest)`."""
    return f"{statistics.fmean(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def print_markdown(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table, as the pages of `docs/` hold it."""
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    print("\n" + "\n".join(lines), flush=True)


# Time and memory


def now(device: Any = "cpu") -> float:
    """Seconds of a clock, once the device has done what it was asked for."""
    import torch

    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()


def peak_mb(device: Any = "cpu") -> float:
    """Peak memory so far: of the allocator on a CUDA device, else of this process, in MB of 1e6 bytes."""
    if str(device).startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def in_own_process(script: str, *arguments: Any) -> Any:
    """Run a script, and read the JSON in its last line.

    A peak of memory counts what the parent held when it started the child, so this comes before anything is loaded.
    """
    words = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def alternate(sides: Mapping[str, Callable[[], Any]], repeats: int, warm_up: int = 0) -> dict[str, list[Any]]:
    """What each side returns, `repeats` times in turn, so that a slow minute hits all; warm-ups do not count."""
    found: dict[str, list[Any]] = {side: [] for side in sides}
    for _ in range(warm_up + repeats):
        for side, measure in sides.items():
            found[side].append(measure())
    return {side: results[warm_up:] for side, results in found.items()}


def medians(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Side -> figure -> its median over the runs of that side."""
    return {
        side: {name: statistics.median(run[name] for run in measured) for name in measured[0]}
        for side, measured in runs.items()
    }


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table for the terminal; numbers go to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console = Console()
    # a log is as wide as the table
    (Console(width=120) if not console.is_terminal else console).print(table)


def write_json(path: Path | None, args: argparse.Namespace, figures: Any, hidden: Sequence[str] = ()) -> None:
    """Arguments (without the `hidden` ones of child processes), torch's version and threads, and all figures."""
    import torch

    if path is None:
        return
    arguments = {name: value for name, value in vars(args).items() if name not in ("json", *hidden)}
    about = {"arguments": arguments, "torch": torch.__version__, "threads": torch.get_num_threads()}
    path.write_text(json.dumps({**about, "figures": figures}, indent=1, default=str) + "\n", encoding="utf-8")
