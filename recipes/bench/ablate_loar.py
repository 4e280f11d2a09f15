"""What routing is worth: the same budgets routed, pruned and dropped at random, on word problems of two domains.

    python recipes/bench/ablate_training.py --adaptations --strategies "as the data are" --seeds 0
    python recipes/bench/ablate_loar.py --seeds 0 1 2

The first command trains the dense model. It (four key/value groups in each of six layers) is trained on for the same
steps: dense; routed at 75% and 50%, the latter also with a task embedding; with static groups, namely those that
matter most (each group is switched off alone, and the loss on training records compared), or drawn at random by the
seed. Both domains are drawn alike. The table holds exact answers on held-out problems of both, generated greedily;
plots: accuracy against the share of groups, and which groups work for which domain. Finished runs are not repeated.
Unknown arguments go to the training runs.
"""

import argparse
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reason import LoAR, LoARConfig, apply_loar, calibrate_routers
from hf_reason.data import load_cot_sft_dataset
from hf_reason.runs import run_in_batches
from hf_reason.runs.round_data import first_of_each
from hf_reason.text import encode, encode_prompt

RECIPES = Path(__file__).parents[1]
CALIBRATION = 128  # records
# share of the groups, how they are chosen
WAYS: dict[str, tuple[float, str]] = {
    "dense": (1.0, "routed"),
    "routed 75%": (0.75, "routed"),
    "routed 75%, from chance": (0.75, "chance"),
    "strongest 75%, static": (0.75, "static"),
    "random 75%, static": (0.75, "random"),
    "routed 50%": (0.5, "routed"),
    "routed 50%, tasks": (0.5, "tasks"),
    "routed 50%, searched": (0.5, "searched"),
    "routed 50%, from chance": (0.5, "chance"),
    "strongest 50%, static": (0.5, "static"),
    "random 50%, static": (0.5, "random"),
}


def importance(base: Path, data: Path) -> list[list[float]]:
    """How much the loss rises when one group alone is switched off, by layer: also where routers start."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base).eval(), AutoTokenizer.from_pretrained(base)
    rows = first_of_each(load_cot_sft_dataset("all", "train", str(data)), CALIBRATION // 2)
    apply_loar(model, LoARConfig(budget=1.0))
    return calibrate_routers(model, [encode(row, tokenizer) for row in rows]).tolist()  # type: ignore[no-any-return]


def static_groups(scores: list[list[float]], share: float, how: str, seed: int) -> list[list[int]]:
    kept, rng = round(share * len(scores[0])), random.Random(seed)
    if how == "random":
        return [sorted(rng.sample(range(len(row)), kept)) for row in scores]
    return [sorted(sorted(range(len(row)), key=lambda g: -row[g])[:kept]) for row in scores]


def command(args: argparse.Namespace, way: str, seed: int, output: Path, extra: list[str]) -> list[str]:
    share, how = WAYS[way]
    values: dict[str, Any] = {
        "model_name_or_path": args.base, "dataset": args.data, "domain": "all", "output_dir": output, "seed": seed,
        "data_seed": seed, "max_steps": args.steps, "budget": share, "save_strategy": "no", "eval_max_new_tokens": 160,
        "calibration_records": 0 if how == "chance" else CALIBRATION, "domain_shares": '{"math": 1, "finance": 1}',
        "test_records": args.test_records,
    }  # fmt: skip
    if how in ("static", "random"):
        values["static_groups"] = json.dumps(static_groups(args.scores, share, how, seed))
    pairs = [text for name, value in values.items() for text in (f"--{name}", str(value))]
    if how == "tasks":
        pairs += ["--task_names", "math", "finance"]
    if how == "searched":
        pairs += ["--search_records", str(CALIBRATION)]
    return [str(RECIPES / "loar.py"), "--config", str(RECIPES / "configs/loar/demo.yaml"), *pairs, *extra]


@torch.no_grad()
def working(output: Path, data: Path, count: int) -> dict[str, list[list[float]]]:
    """How often each group works for each domain, `[layer][group]`."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(output).eval(), AutoTokenizer.from_pretrained(output)
    loar = LoAR.from_pretrained(model, output)
    found = {}
    for domain in ("math", "finance"):
        rows = load_cot_sft_dataset(domain, "test", str(data))
        used = torch.zeros(len(loar.budgets), loar.groups)
        for row in rows.select(range(min(count, len(rows)))):
            with loar.task(domain):
                cache = model(torch.tensor([encode_prompt(row, tokenizer)]), use_cache=True).past_key_values
            for layer, held in enumerate(cache.layers):
                used[layer, held.groups[0]] += 1
        found[domain] = (used / min(count, len(rows))).tolist()
    return found


def plots(args: argparse.Namespace, table: dict[str, list[dict[str, float]]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    for how, label in (("routed", "routed"), ("tasks", "routed, tasks"), ("searched", "routed, budgets searched"),
                       ("chance", "routed from chance"), ("static", "strongest, static"),
                       ("random", "random, static")):  # fmt: skip
        points = [(100 * WAYS[w][0], [r["both"] for r in runs]) for w, runs in table.items()
                  if WAYS[w][1] == how or w == "dense"]  # fmt: skip
        if len(points) < 2:
            continue
        points.sort()
        axes.plot([x for x, _ in points], [sum(y) / len(y) for _, y in points], marker="o", label=label)
    axes.set_xlabel("groups that work (%)")
    axes.set_ylabel(f"exact answers, both domains (%), mean of {len(args.seeds)} seeds")
    axes.legend(frameon=False)
    figure.savefig(args.output_dir / "accuracy.png", dpi=150)
    for way in [w for w in table if WAYS[w][1] in ("routed", "tasks", "searched") and w != "dense"]:
        used = working(args.output_dir / f"{slug(way)}-{args.seeds[0]}", args.data, 50)
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        for place, (domain, values) in enumerate(used.items()):
            axes = figure.add_subplot(1, 2, place + 1)
            image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
            axes.set_title(domain)
            axes.set_xlabel("group")
            axes.set_ylabel("layer")
            axes.set_xticks(range(len(values[0])))
        figure.colorbar(image, label="share of the prompts it works on")
        figure.savefig(args.output_dir / f"{slug(way)}.png", dpi=150)


def slug(way: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in way.lower()).split())


def figures(output: Path) -> dict[str, float]:
    results = json.loads((output / "evaluation" / "evaluation.json").read_text("utf-8"))
    found = {domain: 100 * results["by_domain"][domain]["answer_accuracy"] for domain in ("math", "finance")}
    return found | {"both": 100 * results["answer_accuracy"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--base", type=Path, default=Path("outputs/ablate_training/as-the-data-are-0"))
    parser.add_argument("--data", type=Path, default=Path("outputs/ablate_training/data/both"))
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/ablate_loar"))
    parser.add_argument("--test_records", type=int, default=400)
    parser.add_argument("--parallel", type=int, default=os.cpu_count() or 1)
    args, extra = parser.parse_known_args()
    if not (args.base / "config.json").is_file():
        sys.exit(f"Error: there is no model in {args.base}. The first command above trains it.")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    scores = args.output_dir / "importance.json"
    if not scores.is_file():
        scores.write_text(json.dumps(importance(args.base, args.data)) + "\n", encoding="utf-8")
    args.scores = json.loads(scores.read_text("utf-8"))
    outputs = {(way, seed): args.output_dir / f"{slug(way)}-{seed}" for way in args.ways for seed in args.seeds}
    commands = {
        f"{way}, seed {seed}": (command(args, way, seed, output, extra), output.with_suffix(".log"))
        for (way, seed), output in outputs.items()
        if not (output / "evaluation" / "evaluation.json").is_file()
    }
    run_in_batches(commands, args.parallel)
    table = {way: [figures(outputs[way, seed]) for seed in args.seeds] for way in args.ways}
    print(
        f"\n| {args.steps} steps; mean (seeds {', '.join(map(str, args.seeds))}) | math | finance | both |\n"
        + "|---" * 4
        + "|"
    )
    for way, runs in table.items():
        cells = []
        for key in ("math", "finance", "both"):
            values = [run[key] for run in runs]
            cells.append(f"{sum(values) / len(values):.1f} ({', '.join(f'{value:.1f}' for value in values)})")
        print(f"| {way} | " + " | ".join(cells) + " |")
    plots(args, table)


if __name__ == "__main__":
    main()
