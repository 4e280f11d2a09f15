"""GRPO on the demo's model: the reward for the answer alone, and credit for single steps, at equal completions.

    make demo                                                   (once: it prepares the data and trains the model)
    python recipes/bench/ablate_grpo.py --seeds 0 1 2 --variants answer depth running
    python recipes/bench/ablate_grpo.py --seeds 0 1 2 --distractors

With --distractors: the demo's model has never seen a distractor (an irrelevant sentence with a number). Does GRPO on
distracted problems make it resist them? The same problems with and without distractors, and the accuracy on test
problems with and without, before and after.

The first row is the model before. "more sft" trains it as many seconds as the answer's runs took on average, on the
same data. Runs that are finished are not repeated; unknown arguments go to the GRPO runs (--max_steps 60).
"""

import statistics
from functools import partial
from pathlib import Path
from typing import Any

import common

from hf_reason.data.synthetic.distractors import insert_distractor

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
# with --distractors; "distracted": whether the training problems have one
DISTRACTED: dict[str, dict[str, Any]] = {
    "plain problems": {"step_weight": 0},
    "distracted problems": {"step_weight": 0, "distracted": True},
    "distracted problems, depth": {"step_weight": 0.5, "distracted": True},
}
_PERCENT = ("answers", "with distractors", "resistance", "steps", "equations hold", "closed")


def figures(output: Path) -> dict[str, float]:
    result = common.result_of(output)
    trained = (output / "trainer_state.json").is_file()
    distracted = {
        "with distractors": result.distracted_accuracy or 0.0,
        "resistance": result.distractor_resistance or 0.0,
    }
    return {
        "answers": result.answer_accuracy or 0.0,
        **(distracted if result.distracted_accuracy is not None else {}),
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
        cells.append(common.mean_and_range(values, ".1%" if column in _PERCENT else ".0f"))
    return [name, *cells]


def main() -> None:
    parser = common.parser(__doc__)
    common.add_run_options(parser, "outputs/ablate_grpo")
    parser.add_argument("--model_name_or_path", type=Path, default=Path("outputs/demo/demo"))
    parser.add_argument("--dataset_name", type=Path, default=Path("outputs/demo/data"))
    parser.add_argument("--test_records", type=int, default=400)
    parser.add_argument("--variants", nargs="+", choices=[*VARIANTS, "more sft"], default=[*VARIANTS, "more sft"])
    parser.add_argument("--distractors", action="store_true", help="Train with and without distractors instead.")
    args, extra = parser.parse_known_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    variants = DISTRACTED if args.distractors else {name: VARIANTS[name] for name in args.variants if name in VARIANTS}
    given = {"model_name_or_path": args.model_name_or_path, "dataset_name": args.dataset_name, "domain": "math"}
    measured: dict[str, Any] = {"eval_distractors": "true"} if args.distractors else {}
    length = {"eval_max_completion_length": 128, "max_test_records": args.test_records, **measured}
    jobs = {}
    for name, settings in variants.items():
        options = dict(settings)
        data = {"dataset_name": distracted_data(args)} if options.pop("distracted", False) else {}
        for seed in args.seeds:
            output = args.output_dir / f"{common.slug(name)}-{seed}"
            values = {**given, **data, **options, "output_dir": output, "seed": seed, **length}
            config = common.CONFIGS / "grpo" / "demo.yaml"
            jobs[f"{name}, seed {seed}"] = output, partial(common.command, "grpo", config, values, extra)
    # no training: the same evaluation of the model before
    before = args.output_dir / ("before-distracted" if args.distractors else "before")
    values = {**given, "max_records": args.test_records, "max_completion_length": 128, "batch_size": 100, **measured}
    values["output_dir"] = before / "evaluation"
    jobs["before"] = before, partial(common.command, "evaluate", None, values)
    common.run_missing(jobs, args.parallel)
    found = {"before": [figures(before)]}
    for name in variants:
        found[name] = [figures(args.output_dir / f"{common.slug(name)}-{seed}") for seed in args.seeds]
    if "more sft" in args.variants and not args.distractors:
        found["more sft"] = more_sft(args, given, found.get("answer", []))
    print_table(args.seeds, found)


def distracted_data(args: Any) -> Path:
    """The data set with a distractor in each problem but those of the test, which the evaluation distracts itself."""
    from datasets import load_from_disk

    folder: Path = args.output_dir / "distracted-data"
    if not (folder / "dataset_dict.json").is_file():
        data = load_from_disk(str(args.dataset_name))
        for split in data:
            if split != "test":
                data[split] = data[split].map(insert_distractor, desc=f"Distractors in {split}")
        data.save_to_disk(str(folder))
    return folder


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
