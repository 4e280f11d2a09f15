"""What a teacher is worth: a student a quarter of its size, trained four ways for the same steps.

    make demo                                              (once: it prepares the data and trains the teacher)
    python recipes/bench/ablate_distill.py --seeds 0 1 2

SFT on the records; SFT + KL to the live teacher; the same from its top-k cache; SFT + KL + path consistency. The seed
sets the student's weights and the order of the data; the teacher is one. The table holds exact answers and correct
steps on held-out problems, generated greedily, and the KL from teacher to student on the same records (nats a token,
forward, over the whole vocabulary). Finished runs are not repeated. Unknown arguments go to the training runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reason.cli import run_in_batches
from hf_reason.data import load_cot_sft_dataset
from hf_reason.trainers import DistillKLConfig, DistillKLTrainer

RECIPES = Path(__file__).parents[1]
WAYS: dict[str, dict[str, Any]] = {
    "SFT": {},
    "SFT + KL (live)": {"kl_weight": 0.5},
    "SFT + KL (cache)": {"kl_weight": 0.5, "cache": True},
    "SFT + KL + path": {"kl_weight": 0.5, "path_weight": 1.0},
}
FIGURES = ("exact", "correct steps", "KL to the teacher", "seconds")


def command(args: argparse.Namespace, way: str, seed: int, output: Path, extra: list[str]) -> list[str]:
    """The recipe and its arguments for one run: the demo's schedule, at `args.steps` steps."""
    options = dict(WAYS[way])
    teacher = args.cache if options.pop("cache", False) else args.teacher
    values: dict[str, Any] = {
        "dataset": args.data,
        "output_dir": output,
        "seed": seed,
        "data_seed": seed,
        "max_steps": args.steps,
        "lr_scheduler_kwargs": json.dumps({"num_decay_steps": max(1, round(0.4 * args.steps))}),
        "test_records": args.test_records,
        "eval_strategy": "no",
        "save_strategy": "no",
        "eval_distractors": "false",
        "load_best_model_at_end": "false",
        "model_config": json.dumps(args.model_config),
        "tokenizer_name_or_path": args.teacher,
    }
    recipe, config = ("distill_kl.py", "distill_kl") if options else ("sft_cot.py", "sft_cot")
    if options:
        values |= {"teacher": teacher, **options}
    pairs = [text for name, value in values.items() for text in (f"--{name}", str(value))]
    return [str(RECIPES / recipe), "--config", str(RECIPES / "configs" / config / "demo.yaml"), *pairs, *extra]


def kl_to_teacher(student: Path, args: argparse.Namespace) -> float:
    """Mean forward KL on the target tokens of the test records."""
    tokenizer = AutoTokenizer.from_pretrained(student)
    records = load_cot_sft_dataset("math", "test", str(args.data))
    records = records.select(range(min(args.test_records, len(records))))
    with tempfile.TemporaryDirectory() as folder:
        settings = DistillKLConfig(
            folder,
            kl_weight=1.0,
            ce_weight=0.0,
            per_device_eval_batch_size=50,
            report_to="none",
            disable_tqdm=True,
            use_cpu=args.use_cpu,
            max_length=512,
            gradient_checkpointing=False,
            teacher=str(args.teacher),
            bf16=False,
        )
        model = AutoModelForCausalLM.from_pretrained(student)
        trainer = DistillKLTrainer(
            model, settings, train_dataset=records, eval_dataset=records, processing_class=tokenizer
        )
        return trainer.evaluate()["eval_kl"]


def figures(output: Path, args: argparse.Namespace) -> dict[str, float]:
    results = json.loads((output / "evaluation" / "evaluation.json").read_text())
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    seconds = next(row["train_runtime"] for row in reversed(history) if "train_runtime" in row)
    values = (results["answer_accuracy"], results["step_accuracy"] or 0.0, kl_to_teacher(output, args), seconds)
    return dict(zip(FIGURES, values, strict=True))


def cell(name: str, values: list[float]) -> str:
    mean, form = sum(values) / len(values), {"KL to the teacher": ".4f", "seconds": ".0f"}.get(name, ".1%")
    return f"{mean:{form}} ({', '.join(f'{value:{form}}' for value in values)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--data", type=Path, default=Path("outputs/demo/data"))
    parser.add_argument("--teacher", type=Path, default=Path("outputs/demo/demo"))
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/ablate_distill"))
    parser.add_argument("--test_records", type=int, default=400)
    parser.add_argument("--parallel", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--use_cpu", action="store_true", help="do not use an accelerator")
    parser.add_argument(
        "--model_config",
        type=json.loads,
        help="JSON of the student; default: 64 wide, 4 layers",
        default={
            "hidden_size": 64,
            "intermediate_size": 192,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 512,
            "tie_word_embeddings": True,
        },
    )
    args, extra = parser.parse_known_args()
    if not (args.teacher / "config.json").is_file():
        sys.exit(f"Error: there is no teacher in {args.teacher}. Run `make demo` first, or give --teacher.")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    args.cache = args.output_dir / "teacher-cache"
    if any(WAYS[way].get("cache") for way in args.ways):
        options = ["--dataset", args.data, "--domain", "math", "--teacher", args.teacher, "--output_dir", args.cache]
        options += ["--splits", "train", "--batch_size", 32, "--use_cpu", args.use_cpu]
        done = subprocess.run([sys.executable, str(RECIPES / "cache_teacher.py"), *map(str, options)])
        if done.returncode:
            sys.exit(done.returncode)
    jobs = {
        (way, seed): args.output_dir / f"{'-'.join(way.lower().replace('(', '').replace(')', '').split())}-{seed}"
        for seed in args.seeds
        for way in args.ways
    }
    missing = [job for job, output in jobs.items() if not (output / "evaluation" / "evaluation.json").is_file()]
    commands = {
        f"{way}, seed {seed}": (command(args, way, seed, output, extra), output.with_suffix(".log"))
        for way, seed in missing
        if (output := jobs[way, seed])
    }
    run_in_batches(commands, args.parallel)
    seeds = ", ".join(map(str, args.seeds))
    print(f"\n| {args.steps} steps; mean (seeds {seeds}) | " + " | ".join(FIGURES) + " |\n" + "|---" * 5 + "|")
    for way in args.ways:
        runs = [figures(jobs[way, seed], args) for seed in args.seeds]
        print(f"| {way} | " + " | ".join(cell(name, [run[name] for run in runs]) for name in FIGURES) + " |")
    teacher = json.loads((args.teacher / "evaluation" / "evaluation.json").read_text())
    print(f"| the teacher | {teacher['answer_accuracy']:.1%} | {teacher['step_accuracy']:.1%} | | |")


if __name__ == "__main__":
    main()
