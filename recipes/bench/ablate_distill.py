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
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import common
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reason.data import load_cot_sft_dataset
from hf_reason.trainers import DistillKLConfig, DistillKLTrainer

WAYS: dict[str, dict[str, Any]] = {
    "SFT": {},
    "SFT + KL (live)": {"kl_weight": 0.5},
    "SFT + KL (cache)": {"kl_weight": 0.5, "cache": True},
    "SFT + KL + path": {"kl_weight": 0.5, "path_weight": 1.0},
}
# figure -> how it is shown
FIGURES = {"exact": ".1%", "correct steps": ".1%", "KL to the teacher": ".4f", "seconds": ".0f"}


def command(args: argparse.Namespace, way: str, seed: int, output: Path, extra: list[str]) -> list[str]:
    """The command of one run: the demo's schedule, at `args.steps` steps."""
    options = dict(WAYS[way])
    teacher = args.cache if options.pop("cache", False) else args.teacher_model_name_or_path
    values: dict[str, Any] = {
        "dataset_name": args.dataset_name,
        "output_dir": output,
        "seed": seed,
        "data_seed": seed,
        "max_steps": args.steps,
        "lr_scheduler_kwargs": json.dumps({"num_decay_steps": max(1, round(0.4 * args.steps))}),
        "max_test_records": args.max_test_records,
        "eval_strategy": "no",
        "save_strategy": "no",
        "eval_distractors": "false",
        "load_best_model_at_end": "false",
        "model_config": json.dumps(args.model_config),
        "tokenizer_name_or_path": args.teacher_model_name_or_path,
    }
    if not options:
        return common.command("sft", common.CONFIGS / "sft_cot" / "demo.yaml", values, extra)
    values |= {"teacher_model_name_or_path": teacher, **options}
    return common.command("distill", common.CONFIGS / "distill_kl" / "demo.yaml", values, extra)


def kl_to_teacher(student: Path, args: argparse.Namespace) -> float:
    """Mean forward KL on the target tokens of the test records."""
    tokenizer = AutoTokenizer.from_pretrained(student)
    records = load_cot_sft_dataset("math", "test", str(args.dataset_name))
    records = records.select(range(min(args.max_test_records, len(records))))
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
            teacher_model_name_or_path=str(args.teacher_model_name_or_path),
            bf16=False,
        )
        model = AutoModelForCausalLM.from_pretrained(student)
        trainer = DistillKLTrainer(
            model, settings, train_dataset=records, eval_dataset=records, processing_class=tokenizer
        )
        return trainer.evaluate()["eval_kl"]


def figures(output: Path, args: argparse.Namespace) -> dict[str, float]:
    result, seconds = common.result_of(output), common.training_seconds(output)
    values = (result.answer_accuracy or 0.0, result.step_accuracy or 0.0, kl_to_teacher(output, args), seconds)
    return dict(zip(FIGURES, values, strict=True))


def main() -> None:
    parser = common.parser(__doc__)
    common.add_run_options(parser, "outputs/ablate_distill")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--dataset_name", type=Path, default=Path("outputs/demo/data"))
    parser.add_argument("--teacher_model_name_or_path", type=Path, default=Path("outputs/demo/demo"))
    parser.add_argument("--max_test_records", type=int, default=400)
    parser.add_argument("--use_cpu", action="store_true", help="do not use an accelerator")
    parser.add_argument(
        "--model_config",
        type=json.loads,
        help="JSON of the student; default: 64 wide, 4 layers",
        default=common.STUDENT,
    )
    args, extra = parser.parse_known_args()
    source = args.teacher_model_name_or_path
    if not (source / "config.json").is_file():
        sys.exit(f"Error: {source} has no model. Run `make demo` first, or give --teacher_model_name_or_path.")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    args.cache = args.output_dir / "teacher-cache"
    if any(WAYS[way].get("cache") for way in args.ways):
        values = {"dataset_name": args.dataset_name, "domain": "math", "teacher_model_name_or_path": source}
        values |= {"output_dir": args.cache, "splits": "train", "batch_size": 32, "use_cpu": args.use_cpu}
        done = subprocess.run([sys.executable, *common.command("cache-teacher", None, values)])
        if done.returncode:
            sys.exit(done.returncode)
    outputs = {(way, seed): args.output_dir / f"{common.slug(way)}-{seed}" for seed in args.seeds for way in args.ways}
    jobs = {
        f"{way}, seed {seed}": (output, partial(command, args, way, seed, output, extra))
        for (way, seed), output in outputs.items()
    }
    common.run_missing(jobs, args.parallel)
    rows = []
    for way in args.ways:
        runs = [figures(outputs[way, seed], args) for seed in args.seeds]
        cells = [common.mean_and_values([run[name] for run in runs], form) for name, form in FIGURES.items()]
        rows.append([way, *cells])
    teacher = common.result_of(source)
    rows.append(["the teacher", f"{teacher.answer_accuracy or 0:.1%}", f"{teacher.step_accuracy or 0:.1%}", "", ""])
    seeds = ", ".join(map(str, args.seeds))
    common.print_markdown([f"{args.steps} steps; mean (seeds {seeds})", *FIGURES], rows)


if __name__ == "__main__":
    main()
