"""The whole way on the built-in data: raw traces, clean records, two models, their reports, one question.

    make demo                                  (or: python recipes/demo.py)
    make demo QUESTION="小明有12个苹果,又买来25个,卖出8个。现在有多少个苹果?"
    make demo STEP_REASONER=1

Trains a small Qwen2 on chains of thought and, beside it and for about the same time, the same model on bare answers.
With --step_reasoner a StepReasoner of about the same size follows, by the same recipe, and the table shows all three.
What was finished before is not done again; `make clean` starts anew. Unknown arguments go to the training runs.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from hf_reason.cli import run_side_by_side
from hf_reason.data.synthetic.word_problems import write_word_problems
from hf_reason.evaluation import format_table, save_report

RECIPES = Path(__file__).parent
SAMPLE = RECIPES.parent / "hf_reason" / "data" / "sample"
QUESTION = "小明有12个苹果,又买来25个,卖出8个。现在有多少个苹果?"
MODELS = {"CoT": "demo", "direct answers": "demo_direct"}
SECOND = {"StepReasoner": "demo_step_reasoner"}


def run(script: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, str(RECIPES / script), *arguments])
    if done.returncode:
        sys.exit(done.returncode)


def train(folder: Path, models: dict[str, str], extra: list[str]) -> dict[str, dict]:
    """Train what is not trained yet, and return the figures of these models."""
    commands = {}
    for name, config in models.items():
        if not (folder / config / "evaluation" / "evaluation.json").is_file():
            where = ["--dataset", str(folder / "data"), "--output_dir", str(folder / config)]
            yaml = str(RECIPES / "configs" / "sft_cot" / f"{config}.yaml")
            command = [str(RECIPES / "sft_cot.py"), "--config", yaml, *where, *extra]
            commands[name] = (command, folder / f"{config}.log")
    run_side_by_side(commands)
    return {n: json.loads((folder / c / "evaluation" / "evaluation.json").read_text()) for n, c in models.items()}


def summary(figures: dict, output: Path) -> str:
    """Accuracy on problems of 2 and 3 operations, and how long the training took."""
    groups = [figures["by_num_steps"][key] for key in ("2", "3") if key in figures["by_num_steps"]]
    count = sum(group["num_records"] for group in groups)
    share = sum(group["answer_accuracy"] * group["num_records"] for group in groups) / max(count, 1)
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    seconds = next(row["train_runtime"] for row in reversed(history) if "train_runtime" in row)
    return f"{share:.1%} exact answers on {count} problems of 2 and 3 operations, after {seconds:.0f} s of training"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/demo"))
    parser.add_argument("--question", default=None)
    parser.add_argument("--num_problems", type=int, default=30_000)
    parser.add_argument("--step_reasoner", action="store_true", help="train a StepReasoner too, and show it beside")
    args, extra = parser.parse_known_args()
    folder = args.output_dir
    raw = folder / "raw" / "word_problems.jsonl"
    print("1. Raw traces: the built-in sample in eight layouts, and generated word problems")
    if not raw.is_file():
        write_word_problems(raw, args.num_problems)
    print("2. Clean records")
    data = ["--output_dir", str(folder / "data"), "--min_steps", "2", "--num_proc", str(os.cpu_count())]
    run("prepare_data.py", "--input", str(SAMPLE), str(raw), *data)
    print(f"3. Two models of one size: one learns the steps, one the bare answers (logs in {folder})")
    results = train(folder, MODELS, extra)
    models = dict(MODELS)
    if args.step_reasoner:
        print("   And a StepReasoner of about the same size, by the same recipe")
        results |= train(folder, SECOND, extra)
        models |= SECOND
    print("4. Held-out problems")
    print(format_table(results, baseline="direct answers"))
    save_report(results, folder / "comparison")
    for name, figures in results.items():
        print(f"   {name}: {summary(figures, folder / models[name])}")
    print(f"   Reports: {folder}/data/report.html, {folder}/comparison/, model card {folder}/demo/README.md")
    print("5. A question")
    question = args.question or (sys.stdin.isatty() and input("   Question (Enter for an example): ")) or QUESTION
    for config in [c for n, c in models.items() if n != "direct answers"]:
        run("ask.py", "--model", str(folder / config), "--question", question)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The same command goes on where it stopped.")
    except (RuntimeError, ValueError) as error:
        sys.exit(f"Error: {error}")
