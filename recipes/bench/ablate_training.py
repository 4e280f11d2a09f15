"""What the training strategies are worth, on word problems of two domains of unequal size.

    python recipes/bench/ablate_training.py --seeds 0 1 2

First, models from scratch on 20,000 problems about things (math) and 800 about money (finance): as they are, with
importance sampling, a curriculum, MixUp and label smoothing. Then the first of these models is the base that learns
finance from 3,000 new problems: all its weights, a LoRA on all layers, on the layers that the ranking finds, and on as
many random ones. All are tested on the same held-out problems of both domains, generated greedily. The seed sets the
weights, the order of the data and the random layers; the data are the same. Finished runs are not repeated. Unknown
arguments go to the training runs.
"""

import argparse
import json
import math
import random
import sys
from functools import partial
from pathlib import Path
from typing import Any

import common
from datasets import Dataset, DatasetDict
from safetensors import safe_open

from hf_reason.data.record import make_record
from hf_reason.data.synthetic.word_problems import generate_word_problems

PLAIN = "as the data are"
STRATEGIES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "domains by temperature 3": {"domain_temperature": 3.0},
    "domains evenly, weights of the data": {"domain_ratios": '{"math": 1, "finance": 1}', "domain_target": "data"},
    "curriculum by steps": {"curriculum": "steps"},
    "MixUp 0.2": {"mixup_alpha": 0.2},
    "label smoothing 0.1": {"label_smoothing_factor": 0.1},
}
# What follows the base: the layers that get a LoRA, and the learning rate.
ADAPTATIONS: dict[str, tuple[str | None, float]] = {
    "all weights": (None, 1e-3),
    "LoRA, all layers": ("all", 5e-3),
    "LoRA, reasoner layers": ("auto", 5e-3),
    "LoRA, random layers": ("random", 5e-3),
}
LAYERS, CHOSEN = 6, 2


def make_data(folder: Path) -> None:
    """The two data sets and their common test split; what is there is left alone."""

    def rows(domain: str, count: int, skip: int = 0) -> list[Any]:
        problems = list(generate_word_problems(skip + count, seed=11, domain=domain))[skip:]
        return [make_record(row["context"], row["steps"], row["answer"], domain=domain) for row in problems]

    test = rows("math", 200) + rows("finance", 200)
    random.Random(0).shuffle(test)
    parts = {"both": rows("math", 20_000, 200) + rows("finance", 800, 200), "finance": rows("finance", 3000, 1000)}
    for name, train in parts.items():
        if not (folder / name / "dataset_dict.json").is_file():
            random.Random(0).shuffle(train)
            splits = {"train": Dataset.from_list(train), "test": Dataset.from_list(test)}
            DatasetDict(splits).save_to_disk(folder / name)


def shared_values(args: argparse.Namespace, data: str, output: Path, seed: int, steps: int) -> dict[str, Any]:
    """What all runs have in common."""
    return {
        "dataset_name": args.output_dir / "data" / data,
        "domain": "all",
        "output_dir": output,
        "seed": seed,
        "data_seed": seed,
        "max_steps": steps,
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": "false",
        "eval_distractors": "false",
        "eval_max_completion_length": 160,
        "max_test_records": 200,
    }


def strategy(args: argparse.Namespace, name: str, seed: int, output: Path, extra: list[str]) -> list[str]:
    model = {
        "hidden_size": 96,
        "intermediate_size": 288,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 24,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    }
    values = shared_values(args, "both", output, seed, args.steps) | {
        "model_type": "qwen3",
        "model_config": json.dumps(model),
        "vocab_size": 700,
        "lr_scheduler_kwargs": json.dumps({"num_decay_steps": round(0.4 * args.steps)}),
    }
    return common.command("sft", common.CONFIGS / "sft_cot/demo.yaml", values | STRATEGIES[name], extra)


def adaptation(args: argparse.Namespace, name: str, seed: int, output: Path, extra: list[str]) -> list[str]:
    layers, rate = ADAPTATIONS[name]
    values = shared_values(args, "finance", output, seed, args.adapt_steps)
    values |= {"model_name_or_path": args.base, "learning_rate": rate, "lr_scheduler_type": "cosine"}
    if layers is None:
        # the demo's config is one for a model from scratch, with Muon
        config = args.output_dir / "all_weights.yaml"
        kept = [
            text
            for text in (common.CONFIGS / "lora_reasoner/demo.yaml").read_text("utf-8").splitlines()
            if not text.startswith(("lora_", "reasoner_", "ranking_"))
        ]
        config.write_text("\n".join(kept) + "\n", encoding="utf-8")
        return common.command("sft", config, values, extra)
    if layers == "random":
        layers = ",".join(map(str, sorted(random.Random(seed).sample(range(LAYERS), CHOSEN))))
    values |= {"reasoner_layers": layers, "reasoner_ratio": CHOSEN / LAYERS}
    return common.command("lora", common.CONFIGS / "lora_reasoner/demo.yaml", values, extra)


def trained(output: Path) -> int:
    """Parameters that a run has trained, from what it saved."""
    path = output / "adapter_model.safetensors"
    with safe_open(path if path.is_file() else output / "model.safetensors", "pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def figures(output: Path) -> dict[str, float]:
    result = common.result_of(output)
    found = {domain: 100 * (result.by_domain[domain].answer_accuracy or 0.0) for domain in ("math", "finance")}
    found["steps"] = 100 * (result.step_accuracy or 0.0)
    return found | {"seconds": common.training_seconds(output), "parameters": trained(output)}


def run(args: argparse.Namespace, names: list[str], build: Any, extra: list[str]) -> dict[str, list[dict]]:
    """Train what is missing; the figures of each name, a seed an item."""
    outputs = {(name, seed): args.output_dir / f"{common.slug(name)}-{seed}" for name in names for seed in args.seeds}
    jobs = {
        f"{name}, seed {seed}": (output, partial(build, args, name, seed, output, extra))
        for (name, seed), output in outputs.items()
    }
    common.run_missing(jobs, args.parallel)
    return {name: [figures(outputs[name, seed]) for seed in args.seeds] for name in names}


def row(runs: list[dict[str, float]], **columns: str) -> list[str]:
    """Mean and values of each column, in its form."""
    return [common.mean_and_values([run[name] for run in runs], form) for name, form in columns.items()]


def main() -> None:
    parser = common.parser(__doc__)
    common.add_run_options(parser, "outputs/ablate_training")
    parser.add_argument("--strategies", nargs="*", choices=list(STRATEGIES), default=list(STRATEGIES))
    parser.add_argument("--adaptations", nargs="*", choices=list(ADAPTATIONS), default=list(ADAPTATIONS))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--adapt_steps", type=int, default=200)
    args, extra = parser.parse_known_args()
    make_data(args.output_dir / "data")
    args.base = args.output_dir / f"{common.slug(PLAIN)}-{args.seeds[0]}"
    strategies = run(args, args.strategies, strategy, extra)
    if args.adaptations and not common.is_finished(args.base):
        sys.exit(f"Error: there is no base in {args.base}. Run the strategy {PLAIN!r} first.")
    adaptations = run(args, args.adaptations, adaptation, extra)
    what = f"mean (seeds {', '.join(map(str, args.seeds))})"
    if strategies:
        forms = {"math": ".1f", "finance": ".1f", "steps": ".1f", "seconds": ".0f"}
        rows = [[name, *row(runs, **forms)] for name, runs in strategies.items()]
        common.print_markdown([f"{args.steps} steps; {what}", "math", "finance", "correct steps", "seconds"], rows)
    if not adaptations:
        return
    base = figures(args.base)
    rows = [["the base", "", "", f"{base['finance']:.1f}", f"{base['math']:.1f}", ""]]
    for name, runs in adaptations.items():
        runs = [one | {"forgotten": base["math"] - one["math"]} for one in runs]
        cells = row(runs, seconds=".0f", finance=".1f", math=".1f", forgotten=".1f")
        rows.append([name, f"{runs[0]['parameters']:,.0f}", *cells])
    columns = ["parameters", "seconds", "finance", "math", "forgotten"]
    common.print_markdown([f"{args.adapt_steps} steps; {what}", *columns], rows)


if __name__ == "__main__":
    main()
