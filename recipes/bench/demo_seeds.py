"""The demo's two models with several seeds: chains of thought against bare answers, at about the same training time.

    make demo                                                   (once: it prepares the data)
    python recipes/bench/demo_seeds.py --seeds 0 1 2

The seed sets the weights and the order of the data; the data are the same. Runs that are finished are not repeated.
"""

import argparse
import json
from pathlib import Path

from hf_reason.cli import run_side_by_side

RECIPES = Path(__file__).parents[1]
MODELS = {"CoT": "demo", "direct answers": "demo_direct"}


def figures(output: Path) -> dict[str, float]:
    results = json.loads((output / "evaluation" / "evaluation.json").read_text())
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    few = [results["by_num_steps"][key] for key in ("2", "3")]
    records = sum(group["num_records"] for group in few)
    return {
        "2-3 operations": sum(group["answer_accuracy"] * group["num_records"] for group in few) / records,
        "all": results["answer_accuracy"],
        "step accuracy": results["step_accuracy"] or 0.0,
        "distractor": results["distractor_resistance"] or 0.0,
        "seconds": next(row["train_runtime"] for row in reversed(history) if "train_runtime" in row),
        "records": results["num_records"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", type=Path, default=Path("outputs/demo/data"))
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/demo_seeds"))
    args, extra = parser.parse_known_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in MODELS}
    for seed in args.seeds:
        outputs = {name: args.output_dir / f"{config}-{seed}" for name, config in MODELS.items()}
        commands = {}
        for name, config in MODELS.items():
            if not (outputs[name] / "evaluation" / "evaluation.json").is_file():
                yaml = str(RECIPES / "configs" / "sft_cot" / f"{config}.yaml")
                where = ["--dataset", str(args.data), "--output_dir", str(outputs[name]), "--seed", str(seed)]
                command = [str(RECIPES / "sft_cot.py"), "--config", yaml, *where, *extra]
                commands[name] = (command, args.output_dir / f"{config}-{seed}.log")
        run_side_by_side(commands)
        for name, output in outputs.items():
            rows[name].append(figures(output))
            print(f"seed {seed} {name}: " + ", ".join(f"{key} {value:.3g}" for key, value in rows[name][-1].items()))
    print(f"\n| {len(args.seeds)} seeds, mean (lowest-highest) | " + " | ".join(rows["CoT"][0]) + " |")
    print("|---" * (len(rows["CoT"][0]) + 1) + "|")
    for name, runs in rows.items():
        cells = []
        for key in runs[0]:
            values = [run[key] for run in runs]
            mean, low, high = sum(values) / len(values), min(values), max(values)
            whole = key in ("seconds", "records")
            cells.append(f"{mean:.0f} ({low:.0f}-{high:.0f})" if whole else f"{mean:.1%} ({low:.1%}-{high:.1%})")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
