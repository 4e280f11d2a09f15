"""`demo`: the whole way on the built-in data: raw traces, clean records, two models, their reports, one question.

    make demo                                  (or: hf-reason demo)
    make demo QUESTION="小明有12个苹果,又买来25个,卖出8个。现在有多少个苹果?"
    make demo STEP_REASONER=1

Trains a small Qwen2 on chains of thought and, beside it and for about the same time, the same model on bare answers.
With --step_reasoner a StepReasoner of about the same size follows with the same settings. What was finished
before is not done again. Arguments that are not listed are passed to the trainings.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_reason._options import option
from hf_reason.cli.parsing.launch_plan import LAUNCHED
from hf_reason.cli.parsing.parser import parse_known

from .errors import on_interrupt
from .side_by_side import run_side_by_side

CONFIGS = Path(__file__).parent / "configs"
SAMPLE = Path(__file__).parents[1] / "data" / "sample"
QUESTION = "小明有12个苹果,又买来25个,卖出8个。现在有多少个苹果?"
MODELS = {"CoT": "demo", "direct answers": "demo_direct"}
SECOND = {"StepReasoner": "demo_step_reasoner"}


@dataclass
class DemoArguments:
    """Where the demo works, and what it asks."""

    output_dir: str = option("outputs/demo", "Folder of data, models and reports.")
    question: str | None = option(None, "What the models are asked at the end.")
    num_problems: int = option(30_000, "Generated word problems.")
    step_reasoner: bool = option(False, "Train a StepReasoner too, and show it beside the others.")
    distractors: float = option(0.25, "Fraction of the training problems that get a copy with a distractor; 0: none.")


CLASSES = (DemoArguments,)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; `argv` are the arguments after the command's name."""
    args: DemoArguments
    (args,), extra = parse_known("demo", CLASSES, argv)
    on_interrupt(lambda: "The same command continues where it stopped.")
    # a launcher's default file is for real trainings: these models are small enough for a core each
    os.environ.setdefault(LAUNCHED, "none")
    folder = Path(args.output_dir)
    raw = folder / "raw" / "word_problems.jsonl"
    print("1. Raw traces: the built-in sample in eight layouts, and generated word problems", flush=True)
    if not raw.is_file():
        from hf_reason.data.synthetic.word_problems import write_word_problems

        write_word_problems(raw, args.num_problems)
    print("2. Clean records", flush=True)
    names = ["--dataset_name", str(SAMPLE), str(raw), "--output_dir", str(folder / "data")]
    code = _run("prepare", *names, "--min_steps", "2", "--num_proc", str(os.cpu_count()))
    data = folder / "data"
    if args.distractors and not code:
        data = folder / "augmented"
        names = ["--dataset_name", str(folder / "data"), "--output_dir", str(data), "--overwrite"]
        code = _run("augment", *names, "--distractors", str(args.distractors))
    if code:
        return code
    print(f"3. Two models of one size: one learns the steps, one the bare answers (logs in {folder})", flush=True)
    results = train(folder, data, MODELS, extra)
    models = dict(MODELS)
    if args.step_reasoner:
        print("   And a StepReasoner of about the same size, with the same settings", flush=True)
        results |= train(folder, data, SECOND, extra)
        models |= SECOND
    _report(folder, models, results)
    print("5. A question", flush=True)
    question = args.question or (sys.stdin.isatty() and input("   Question (Enter for an example): ")) or QUESTION
    for config in (config for name, config in models.items() if name != "direct answers"):
        code = _run("ask", "--model_name_or_path", str(folder / config), "--question", question)
        if code:
            return code
    return 0


def _run(command: str, *arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "hf_reason.cli", command, *arguments]).returncode


def train(folder: Path, data: Path, models: Mapping[str, str], extra: Sequence[str]) -> dict[str, Any]:
    """Train what is not trained yet, and return the figures of these models.

    Args:
        folder: Of the demo; a model's folder there has the name of its configuration.
        data: The records.
        models: Name -> configuration.
        extra: Arguments that override the configurations.
    """
    commands = {}
    for name, config in models.items():
        if not _figures(folder, config).is_file():
            where = ["--dataset_name", str(data), "--output_dir", str(folder / config)]
            command = ["-m", "hf_reason.cli", "sft", "--config", str(CONFIGS / f"{config}.yaml"), *where, *extra]
            commands[name] = (command, folder / f"{config}.log")
    run_side_by_side(commands)
    return {name: json.loads(_figures(folder, config).read_text("utf-8")) for name, config in models.items()}


def _figures(folder: Path, config: str) -> Path:
    return folder / config / "evaluation" / "evaluation.json"


def _report(folder: Path, models: Mapping[str, str], results: Mapping[str, Any]) -> None:
    from hf_reason.evaluation import format_table, save_report

    print("4. Held-out problems")
    print(format_table(results, baseline="direct answers"))
    save_report(results, folder / "comparison")
    for name, figures in results.items():
        print(f"   {name}: {summary(figures, folder / models[name])}")
    print(f"   Reports: {folder}/data/report.html, {folder}/comparison/, model card {folder}/demo/README.md")


def summary(figures: Mapping[str, Any], output: Path) -> str:
    """Accuracy on problems of 2 and 3 operations, and how long the training took."""
    groups = [figures["by_num_steps"][key] for key in ("2", "3") if key in figures["by_num_steps"]]
    count = sum(group["num_records"] for group in groups)
    right = sum(group["answer_accuracy"] * group["num_records"] for group in groups)
    history = json.loads((output / "trainer_state.json").read_text("utf-8"))["log_history"]
    seconds = next(row["train_runtime"] for row in reversed(history) if "train_runtime" in row)
    return (
        f"{right / max(count, 1):.1%} exact answers on {count} problems of 2 and 3 operations, after {seconds:.0f} s "
        "of training"
    )
