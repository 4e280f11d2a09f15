"""On-policy distillation: whole completions against their first steps, in accuracy and in accuracy per second.

    make demo                                              (once: it prepares the data and trains the teacher)
    python recipes/bench/ablate_first_steps.py --seeds 0 1 2 --parallel 1

A student a quarter of the teacher's size is first trained on the records for --student_steps steps. From there every
way trains --steps steps on completions that the student writes itself (lmbda 1, reverse KL). The gain is that of exact
answers over the student before, in points; the seconds are those of the training. Finished runs are not repeated;
unknown arguments go to the distillation runs. With --parallel above 1 the runs slow each other down.
"""

import json
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import common

WAYS: dict[str, dict[str, Any]] = {
    "whole": {},
    "1 step": {"first_steps": 1},
    "2 steps": {"first_steps": 2},
    "half": {"first_steps": 0.5},
}
# Nothing is evaluated or saved on the way, and the rate stays as it is.
PLAIN = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": "false", "eval_distractors": "false"}


def student_job(args: Any) -> tuple[Path, Any]:
    """The student that all ways begin with."""
    output = args.output_dir / "student"
    values = {**PLAIN, "dataset_name": args.dataset_name, "output_dir": output, "max_steps": args.student_steps}
    values |= {"tokenizer_name_or_path": args.teacher_model_name_or_path, "model_config": json.dumps(common.STUDENT)}
    values |= {"max_test_records": args.test_records, "lr_scheduler_kwargs": _decay(args.student_steps)}
    return output, partial(common.command, "sft", common.CONFIGS / "sft_cot" / "demo.yaml", values)


def _decay(steps: int) -> str:
    return json.dumps({"num_decay_steps": max(1, round(0.4 * steps))})


def way_job(args: Any, way: str, seed: int, output: Path, extra: list[str]) -> list[str]:
    values: dict[str, Any] = {
        **PLAIN,
        "dataset_name": args.dataset_name,
        "domain": "math",
        "output_dir": output,
        "model_name_or_path": args.output_dir / "student",
        "teacher_model_name_or_path": args.teacher_model_name_or_path,
        "seed": seed,
        "data_seed": seed,
        "lmbda": 1.0,
        "beta": 1.0,
        "ce_weight": 0.0,
        "kl_weight": 1.0,
        "max_completion_length": 128,
        "learning_rate": 3e-4,
        "lr_scheduler_type": "constant",
        "report_to": "none",
        "per_device_train_batch_size": 32,
        "max_length": 512,
        "gradient_checkpointing": "false",
        "dataloader_pin_memory": "false",
        "disable_tqdm": "true",
        "bf16": "false",
        "logging_steps": 1,
        "max_steps": args.steps,
        "max_test_records": args.test_records,
        "eval_max_completion_length": 128,
        "eval_generation_batch_size": 100,
        **WAYS[way],
    }
    return common.command("distill", None, values, extra)


def figures(output: Path, before: float) -> dict[str, float]:
    result, seconds = common.result_of(output), common.training_seconds(output)
    gain = 100 * ((result.answer_accuracy or 0.0) - before)
    return {
        "exact": result.answer_accuracy or 0.0,
        "correct steps": result.step_accuracy or 0.0,
        "seconds": seconds,
        "points a minute": 60 * gain / seconds,
        "tokens a completion": statistics.fmean(common.logged(output, "completions/mean_length")),
        "seconds of sampling": sum(common.logged(output, "sampling/seconds")),
        "overlap at the end": common.logged(output, "top_k_overlap")[-1],
    }


FORMS = {"exact": ".1%", "correct steps": ".1%", "seconds": ".0f", "overlap at the end": ".1%"}


def main() -> None:
    parser = common.parser(__doc__)
    common.add_run_options(parser, "outputs/ablate_first_steps")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--student_steps", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--dataset_name", type=Path, default=Path("outputs/demo/data"))
    parser.add_argument("--teacher_model_name_or_path", type=Path, default=Path("outputs/demo/demo"))
    parser.add_argument("--test_records", type=int, default=400)
    args, extra = parser.parse_known_args()
    if not (args.teacher_model_name_or_path / "config.json").is_file():
        sys.exit(f"Error: {args.teacher_model_name_or_path} has no model. Run `make demo` first.")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    common.run_missing({"student": student_job(args)}, 1)
    outputs = {(way, seed): args.output_dir / f"{common.slug(way)}-{seed}" for seed in args.seeds for way in args.ways}
    common.run_missing(
        {
            f"{way}, seed {seed}": (output, partial(way_job, args, way, seed, output, extra))
            for (way, seed), output in outputs.items()
        },
        args.parallel,
    )
    start, teacher = common.result_of(args.output_dir / "student"), common.result_of(args.teacher_model_name_or_path)
    before = start.answer_accuracy or 0.0
    rows = []
    for way in args.ways:
        runs = [figures(outputs[way, seed], before) for seed in args.seeds]
        rows.append([way, *(common.mean_and_range([run[n] for run in runs], FORMS.get(n, ".1f")) for n in runs[0])])
    columns = list(figures(outputs[args.ways[0], args.seeds[0]], before))
    for name, result in (("the student before", start), ("the teacher", teacher)):
        own = [f"{result.answer_accuracy or 0:.1%}", f"{result.step_accuracy or 0:.1%}"]
        rows.append([name, *own, *[""] * (len(columns) - 2)])
    title = f"{args.steps} steps, {len(args.seeds)} seeds, mean (lowest-highest)"
    common.print_markdown([title, *columns], rows)


if __name__ == "__main__":
    main()
