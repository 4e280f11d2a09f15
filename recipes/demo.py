"""The whole way on the built-in data: raw traces, clean records, two models, their reports, one question.

    make demo                                  (or: python recipes/demo.py)
    make demo QUESTION="小明有12个苹果,又买来5个,卖出8个。现在有多少个苹果?"

Trains a small Qwen2 on chains of thought and, beside it and for the same time, the same model on bare answers. What
was finished before is not done again; `make clean` starts anew.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from hf_reason.data.word_problems import write_word_problems
from hf_reason.evaluation import format_table, save_report

RECIPES = Path(__file__).parent
SAMPLE = RECIPES.parent / "hf_reason" / "data" / "sample"
QUESTION = "小明有12个苹果,又买来25个,卖出8个。现在有多少个苹果?"
MODELS = {"CoT": "demo", "direct answers": "demo_direct"}


def run(*command: str, log: Path | None = None, threads: int | None = None) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    output = log.open("w") if log else None
    return subprocess.Popen([sys.executable, *command], stdout=output, stderr=output, env=environment)


def finish(process: subprocess.Popen, what: str, log: Path | None = None) -> None:
    if process.wait():
        sys.exit(f"{what} failed" + (f"; see {log}:\n{log.read_text()[-2000:]}" if log else "."))


def train(folder: Path, extra: list[str]) -> dict[str, dict]:
    """Both models at once, each on its share of the cores; returns their figures."""
    threads = max(1, (os.cpu_count() or 1) // len(MODELS))
    runs = {}
    for name, config in MODELS.items():
        output, log = folder / config, folder / f"{config}.log"
        if not (output / "evaluation" / "evaluation.json").is_file():
            yaml = str(RECIPES / "configs" / "sft_cot" / f"{config}.yaml")
            where = ["--dataset", str(folder / "data"), "--output_dir", str(output)]
            script = str(RECIPES / "sft_cot.py")
            runs[name] = (run(script, "--config", yaml, *where, *extra, log=log, threads=threads), log)
    try:
        started = time.monotonic()
        while any(process.poll() is None for process, _ in runs.values()):
            time.sleep(2)
            steps = [f"{name}: {last_line(log)}" for name, (_, log) in runs.items()]
            print(f"\r[{time.monotonic() - started:4.0f} s] " + " | ".join(steps), end="\033[K", flush=True)
    finally:  # Ctrl-C reaches the children too; they must not outlive this process
        for process, _ in runs.values():
            process.terminate()
    print()
    for name, (process, log) in runs.items():
        finish(process, name, log)
    return {n: json.loads((folder / c / "evaluation" / "evaluation.json").read_text()) for n, c in MODELS.items()}


def last_line(log: Path) -> str:
    found = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("{'loss'")]
    return found[-1][:16].strip("{,") if found else "starting"


def training_seconds(output: Path) -> str:
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return next((f"trained {row['train_runtime']:.0f} s" for row in history[::-1] if "train_runtime" in row), "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/demo"))
    parser.add_argument("--question", default=None)
    parser.add_argument("--num_problems", type=int, default=30_000)
    args, extra = parser.parse_known_args()
    folder = args.output_dir
    raw = folder / "raw" / "word_problems.jsonl"
    print("1. Raw traces: the built-in sample in eight layouts, and generated word problems")
    if not raw.is_file():
        write_word_problems(raw, args.num_problems)
    print("2. Clean records")
    prepare = [str(RECIPES / "prepare_data.py"), "--input", str(SAMPLE), str(raw), "--min_steps", "2"]
    finish(run(*prepare, "--output_dir", str(folder / "data"), "--num_proc", str(os.cpu_count())), "prepare_data")
    print("3. Two models of one size: one learns the steps, one the bare answers (logs in", f"{folder})")
    results = train(folder, extra)
    print("4. Held-out problems")
    print(format_table(results, baseline="direct answers"))
    save_report(results, folder / "comparison")
    for name, figures in results.items():
        groups = [figures["by_num_steps"][key] for key in ("2", "3") if key in figures["by_num_steps"]]
        count = sum(group["num_records"] for group in groups)
        share = sum(group["answer_accuracy"] * group["num_records"] for group in groups) / max(count, 1)
        seconds = training_seconds(folder / MODELS[name])
        print(f"   {name}: {share:.1%} exact answers on {count} problems of 2 and 3 operations ({seconds})")
    print(f"   Reports: {folder}/data/report.html, {folder}/comparison/, model card {folder}/demo/README.md")
    print("5. A question")
    question = (
        args.question or (input("   Question (Enter for an example): ") if sys.stdin.isatty() else "") or QUESTION
    )
    finish(run(str(RECIPES / "ask.py"), "--model", str(folder / "demo"), "--question", question), "ask")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The same command goes on where it stopped.")
