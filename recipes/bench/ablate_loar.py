"""What routing is worth: the same budgets routed, pruned and dropped at random, on word problems of two domains.

    python recipes/bench/ablate_training.py --adaptations --strategies "as the data are" --seeds 0
    python recipes/bench/ablate_loar.py --seeds 0 1 2

The first command trains the dense model. It (four key/value groups in each of six layers) is trained on for the same
steps: dense; routed at 75% and 50%, the latter also with a task embedding; with static groups, namely those that
matter most (each group is switched off alone, and the loss on training records compared), or drawn at random by the
seed. Both domains are drawn alike. The table holds exact answers on held-out problems of both, generated greedily;
plots: accuracy against the fraction of groups, and which groups work for which domain. Finished runs are not repeated.
Unknown arguments go to the training runs.
"""

import argparse
import json
import random
import sys
from functools import partial
from pathlib import Path
from typing import Any

import common
import torch
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reason import LoAR, LoARConfig, apply_loar, calibrate_routers, search_budgets
from hf_reason.cli.inputs.datasets import first_of_each
from hf_reason.data import load_cot_sft_dataset
from hf_reason.text import encode, encode_prompt

RECORDS = 128  # on which the groups' worth is measured and budgets are searched, both domains alike
DOMAINS = ("math", "finance")
# fraction of the groups, how they are chosen, whether the layers' budgets are those of the search
WAYS: dict[str, tuple[float, str, bool]] = {
    "dense": (1.0, "routed", False),
    "routed 75%": (0.75, "routed", False),
    "strongest 75%, static": (0.75, "static", False),
    "random 75%, static": (0.75, "random", False),
    "routed 50%": (0.5, "routed", False),
    "routed 50%, tasks": (0.5, "tasks", False),
    "routed 50%, from chance": (0.5, "chance", False),
    "strongest 50%, static": (0.5, "static", False),
    "random 50%, static": (0.5, "random", False),
    "routed 50%, searched budgets": (0.5, "routed", True),
    "strongest 50%, static, searched budgets": (0.5, "static", True),
    "random 50%, static, searched budgets": (0.5, "random", True),
}
LINES = {
    ("routed", False): ("routed", "C0", "o-"),
    ("tasks", False): ("routed, tasks", "C4", "o--"),
    ("chance", False): ("routed, from chance", "C7", "o:"),
    ("static", False): ("strongest, static", "C1", "s-"),
    ("random", False): ("random, static", "C2", "^-"),
    ("routed", True): ("routed, searched budgets", "C0", "D"),
    ("static", True): ("strongest, static, searched budgets", "C1", "D"),
    ("random", True): ("random, static, searched budgets", "C2", "D"),
}


def prepared(args: argparse.Namespace) -> dict[str, Any]:
    """What each group is worth (the loss's rise without it), by layer, and the budgets that a search finds for 50%."""
    path = args.output_dir / "prepared.json"
    if not path.is_file():
        model, tokenizer = (
            AutoModelForCausalLM.from_pretrained(args.model_name_or_path).eval(),
            AutoTokenizer.from_pretrained(args.model_name_or_path),
        )
        loar = apply_loar(model, LoARConfig(budget=0.5))

        rows = load_cot_sft_dataset("all", "train", str(args.dataset_name))
        halves = [rows.select(range(len(rows) // 2)), rows.select(range(len(rows) // 2, len(rows)))]
        first, second = ([encode(row, tokenizer) for row in first_of_each(half, RECORDS // 2)] for half in halves)
        worth = {"both": calibrate_routers(model, first).tolist()}
        result = search_budgets(model, second, progress=tqdm)
        print(result)
        model.loar.unload()
        for domain in DOMAINS:  # the same by domain, to see whether there is anything to route by
            apply_loar(model, LoARConfig(budget=1.0))
            rows = load_cot_sft_dataset(domain, "train", str(args.dataset_name)).select(range(RECORDS // 2))
            worth[domain] = calibrate_routers(model, [encode(row, tokenizer) for row in rows]).tolist()
            model.loar.unload()
        found = {"worth": worth, "budgets": result.budgets, "search": str(result), "uniform": list(loar.budgets)}
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return json.loads(path.read_text("utf-8"))  # type: ignore[no-any-return]


def static_groups(worth: list[list[float]], budgets: list[int], how: str, seed: int) -> list[list[int]]:
    rng = random.Random(seed)
    if how == "random":
        return [sorted(rng.sample(range(len(row)), kept)) for row, kept in zip(worth, budgets, strict=True)]
    return [
        sorted(sorted(range(len(row)), key=lambda g: -row[g])[:kept]) for row, kept in zip(worth, budgets, strict=True)
    ]


def command(args: argparse.Namespace, way: str, seed: int, output: Path, extra: list[str]) -> list[str]:
    (ratio, how, searched), worth = WAYS[way], args.prepared["worth"]["both"]
    budgets = args.prepared["budgets"] if searched else [round(ratio * len(worth[0]))] * len(worth)
    values: dict[str, Any] = {
        "model_name_or_path": args.model_name_or_path,
        "dataset_name": args.dataset_name,
        "domain": "all",
        "output_dir": output,
        "seed": seed,
        "data_seed": seed,
        "max_steps": args.steps,
        "budget": ",".join(map(str, budgets)),
        "save_strategy": "no",
        "calibration_records": 0 if how == "chance" else RECORDS,
        "eval_max_completion_length": 160,
        "domain_ratios": json.dumps(dict.fromkeys(DOMAINS, 1)),
        "max_test_records": args.max_test_records,
    }
    if how in ("static", "random"):
        values["static_groups"] = json.dumps(static_groups(worth, budgets, how, seed))
    if how == "tasks":
        values["task_names"] = DOMAINS
    return common.command("loar", common.CONFIGS / "loar" / "demo.yaml", values, extra)


@torch.no_grad()
def working(output: Path, data: Path, count: int) -> dict[str, list[list[float]]]:
    """How often each group works for each domain, `[layer][group]`."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(output).eval(), AutoTokenizer.from_pretrained(output)
    loar = LoAR.from_pretrained(model, output).loar
    found = {}
    for domain in DOMAINS:
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
    for (how, searched), (label, color, style) in LINES.items():
        points = sorted(
            (100 * WAYS[way][0], sum(run["both"] for run in runs) / len(runs), [run["both"] for run in runs])
            for way, runs in table.items()
            if WAYS[way][1:] == (how, searched) or (way == "dense" and not searched)
        )
        if points and points[0][0] < 100:
            axes.plot([x for x, *_ in points], [y for _, y, _ in points], style, color=color, label=label)
            for x, _, single in points:
                axes.plot([x] * len(single), single, ".", color=color, alpha=0.4)
    axes.set_xlabel("groups that work (%)")
    axes.set_ylabel("exact answers, both domains (%)")
    axes.set_title(f"mean of {len(args.seeds)} seeds (dots: each)", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(args.output_dir / "accuracy.png", dpi=150)
    shown = [w for w in table if WAYS[w][1] in ("routed", "tasks", "chance") and w != "dense"]
    if not shown:
        return
    figure = Figure(figsize=(2.1 * len(shown), 5.2), layout="constrained")
    grid = figure.subplots(len(DOMAINS), len(shown), squeeze=False, sharex=True, sharey=True)
    for column, way in enumerate(shown):
        used = working(args.output_dir / f"{common.slug(way)}-{args.seeds[0]}", args.dataset_name, 50)
        for row, domain in enumerate(DOMAINS):
            axes = grid[row, column]
            image = axes.imshow(used[domain], vmin=0, vmax=1, cmap="viridis", aspect="auto")
            axes.set_xticks(range(len(used[domain][0])))
            axes.set_title(way.replace(", ", ",\n") if row == 0 else "", fontsize=9)
            axes.set_ylabel(f"{domain}: layer" if column == 0 else "")
            axes.set_xlabel("group" if row == len(DOMAINS) - 1 else "")
    figure.colorbar(image, ax=grid, label="fraction of the prompts it works on")
    figure.savefig(args.output_dir / "groups.png", dpi=150)


def figures(output: Path) -> dict[str, float]:
    result = common.result_of(output)
    found = {domain: 100 * (result.by_domain[domain].answer_accuracy or 0.0) for domain in DOMAINS}
    return found | {"both": 100 * (result.answer_accuracy or 0.0)}


def main() -> None:
    parser = common.parser(__doc__)
    common.add_run_options(parser, "outputs/ablate_loar")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--steps", type=int, default=150)
    dense = Path("outputs/ablate_training/as-the-data-are-0")
    parser.add_argument("--model_name_or_path", type=Path, default=dense, help="The dense model.")
    parser.add_argument("--dataset_name", type=Path, default=Path("outputs/ablate_training/data/both"))
    parser.add_argument("--max_test_records", type=int, default=400)
    args, extra = parser.parse_known_args()
    if not (args.model_name_or_path / "config.json").is_file():
        sys.exit(f"Error: {args.model_name_or_path} has no model. The first command above trains it.")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    args.prepared = prepared(args)
    outputs = {(way, seed): args.output_dir / f"{common.slug(way)}-{seed}" for way in args.ways for seed in args.seeds}
    jobs = {
        f"{way}, seed {seed}": (output, partial(command, args, way, seed, output, extra))
        for (way, seed), output in outputs.items()
    }
    common.run_missing(jobs, args.parallel)
    table = {way: [figures(outputs[way, seed]) for seed in args.seeds] for way in args.ways}
    rows = []
    for way, runs in table.items():
        rows.append([way, *(common.mean_and_values([run[name] for run in runs]) for name in (*DOMAINS, "both"))])
    seeds = ", ".join(map(str, args.seeds))
    common.print_markdown([f"{args.steps} steps; mean (seeds {seeds})", *DOMAINS, "both"], rows)
    plots(args, table)


if __name__ == "__main__":
    main()
