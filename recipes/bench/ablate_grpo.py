"""GRPO on the demo's model: the reward for the answer alone, and credit for single steps, at equal completions.

    make demo                                                   (once: it prepares the data and trains the model)
    python recipes/bench/ablate_grpo.py --seeds 0 1 2 --variants answer depth running

The first row is the model before. "more sft" trains it as many seconds as the answer's runs took on average, on the
same data. Runs that are finished are not repeated; unknown arguments go to the GRPO runs (--max_steps 60).
"""

import statistics
from functools import partial
from pathlib import Path
from typing import Any

import common

VARIANTS: dict[str, dict[str, Any]] = {
    "answer": {"step_weight": 0},
    "depth 0.25": {"step_weight": 0.25},
    "depth": {"step_weight": 0.5},
    "depth 1": {"step_weight": 1},
    "running": {"step_weight": 0.5, "step_baseline": "running"},
    "beyond errors": {"step_weight": 0.5, "stop_credit_at_error": False},
    "step reward": {"step_weight": 0, "reward_funcs": ["answer", "step"]},
    "format": {"step_weight": 0, "reward_funcs": ["format"]},
}


def figures(output: Path) -> dict[str, float]:
    result = common.result_of(output)
    trained = (output / "trainer_state.json").is_file()
    return {
        "answers": result.answer_accuracy or 0.0,
        "steps": result.step_accuracy or 0.0,
        "equations hold": result.equations_hold or 0.0,
        "closed": result.close_rate or 0.0,
        "tokens": result.reasoning_length.mean_tokens or 0.0,
        "tokens sampled": common.logged(output, "num_tokens")[-1] if trained else 0.0,
        "seconds": common.training_seconds(output) if trained else 0.0,
    }


def row(name: str, runs: list[dict[str, float]]) -> list[str]:
    cells = []
    for column in runs[0]:
        values = [run[column] for run in runs]
        percent = column in ("answers", "steps", "equations hold", "closed")
        cells.append(common.mean_and_range(values, ".1%" if percent else ".0f"))
    return [name, *cells]


def main() -> None:
    parser = common.parser(__doc__)
    common.add_run_options(parser, "outputs/ablate_grpo")
    parser.add_argument("--model_name_or_path", type=Path, default=Path("outputs/demo/demo"))
    parser.add_argument("--dataset_name", type=Path, default=Path("outputs/demo/data"))
    parser.add_argument("--test_records", type=int, default=400)
    parser.add_argument("--variants", nargs="+", choices=[*VARIANTS, "more sft"], default=[*VARIANTS, "more sft"])
    args, extra = parser.parse_known_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    given = {"model_name_or_path": args.model_name_or_path, "dataset_name": args.dataset_name, "domain": "math"}
    length = {"eval_max_completion_length": 128}
    jobs = {}
    for name in (name for name in args.variants if name in VARIANTS):
        for seed in args.seeds:
            output = args.output_dir / f"{common.slug(name)}-{seed}"
            values = {**given, **VARIANTS[name], "output_dir": output, "seed": seed, **length}
            values["max_test_records"] = args.test_records
            config = common.CONFIGS / "grpo" / "demo.yaml"
            jobs[f"{name}, seed {seed}"] = output, partial(common.command, "grpo", config, values, extra)
    # no training: the same evaluation of the model before
    before = args.output_dir / "before"
    values = {**given, "max_records": args.test_records, "max_completion_length": 128, "batch_size": 100}
    values["output_dir"] = before / "evaluation"
    jobs["before"] = before, partial(common.command, "evaluate", None, values)
    common.run_missing(jobs, args.parallel)
    found = {"before": [figures(before)]}
    for name in (name for name in args.variants if name in VARIANTS):
        found[name] = [figures(args.output_dir / f"{common.slug(name)}-{seed}") for seed in args.seeds]
    if "more sft" in args.variants:
        found["more sft"] = more_sft(args, given, found.get("answer", []))
    print_table(args.seeds, found)


def more_sft(args: Any, given: dict[str, Any], answer: list[dict[str, float]]) -> list[dict[str, float]]:
    """SFT on the same data, of which a first run of 20 steps says how many fit into the seconds of "answer"."""
    if not answer:
        raise SystemExit("more sft is compared with the variant answer: add it to --variants.")
    settings = {
        **given,
        "max_length": 512,
        "learning_rate": 3e-4,
        "lr_scheduler_type": "constant",
        "report_to": "none",
    }
    settings |= {
        "per_device_train_batch_size": 32,
        "bf16": False,
        "gradient_checkpointing": False,
        "save_strategy": "no",
    }
    settings |= {"max_test_records": args.test_records, "eval_max_completion_length": 128}
    probe = args.output_dir / "more-sft-probe"
    values = {**settings, "output_dir": probe, "max_steps": 20, "max_test_records": 1}
    common.run_missing({"probe": (probe, partial(common.command, "sft", None, values))}, 1)
    seconds = statistics.fmean(run["seconds"] for run in answer)
    steps = max(int(20 * seconds / common.training_seconds(probe)), 1)
    outputs = {seed: args.output_dir / f"more-sft-{seed}" for seed in args.seeds}
    jobs = {}
    for seed, output in outputs.items():
        values = {**settings, "output_dir": output, "seed": seed, "max_steps": steps}
        jobs[f"more sft, seed {seed}"] = output, partial(common.command, "sft", None, values)
    common.run_missing(jobs, args.parallel)
    return [figures(output) for output in outputs.values()]


def print_table(seeds: list[int], found: dict[str, list[dict[str, float]]]) -> None:
    columns = [f"{len(seeds)} seeds, mean (lowest-highest)", *found["before"][0]]
    common.print_markdown(columns, [row(name, runs) for name, runs in found.items()])


if __name__ == "__main__":
    main()
