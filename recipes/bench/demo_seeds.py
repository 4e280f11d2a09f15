"""The demo's two models with several seeds: chains of thought against bare answers, at about the same training time.

    make demo                                                   (once: it prepares the data)
    python recipes/bench/demo_seeds.py --seeds 0 1 2

The seed sets the weights and the order of the data; the data are the same. Runs that are finished are not repeated;
unknown arguments go to the training runs.
"""

from functools import partial
from pathlib import Path

import common

MODELS = {"CoT": "demo", "direct answers": "demo_direct"}


def figures(output: Path) -> dict[str, float]:
    result = common.result_of(output)
    few = [result.by_num_steps[key] for key in ("2", "3") if key in result.by_num_steps]
    right = sum((group.answer_accuracy or 0.0) * group.num_records for group in few)
    return {
        "2-3 operations": right / sum(group.num_records for group in few),
        "all": result.answer_accuracy or 0.0,
        "step accuracy": result.step_accuracy or 0.0,
        "distractor": result.distractor_resistance or 0.0,
        "seconds": common.training_seconds(output),
        "records": result.num_records,
    }


def main() -> None:
    parser = common.parser(__doc__)
    common.add_run_options(parser, "outputs/demo_seeds")
    parser.add_argument("--dataset_name", type=Path, default=Path("outputs/demo/data"))
    args, extra = parser.parse_known_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    outputs = {(seed, name): args.output_dir / f"{MODELS[name]}-{seed}" for seed in args.seeds for name in MODELS}
    jobs = {}
    for (seed, name), output in outputs.items():
        values = {"dataset_name": args.dataset_name, "output_dir": output, "seed": seed}
        config = common.CONFIGS / "sft_cot" / f"{MODELS[name]}.yaml"
        jobs[f"{name}, seed {seed}"] = output, partial(common.command, "sft", config, values, extra)
    common.run_missing(jobs, args.parallel)
    found = {name: [figures(outputs[seed, name]) for seed in args.seeds] for name in MODELS}
    columns = list(found["CoT"][0])
    rows = []
    for name, runs in found.items():
        forms = [".0f" if column in ("seconds", "records") else ".1%" for column in columns]
        cells = [common.mean_and_range([run[c] for run in runs], f) for c, f in zip(columns, forms, strict=True)]
        rows.append([name, *cells])
    common.print_markdown([f"{len(args.seeds)} seeds, mean (lowest-highest)", *columns], rows)


if __name__ == "__main__":
    main()
