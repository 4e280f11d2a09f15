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
import os
import random
import sys
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from safetensors import safe_open

from hf_reason.cli import run_in_batches
from hf_reason.data.record import make_record
from hf_reason.data.synthetic.word_problems import generate_word_problems

RECIPES = Path(__file__).parents[1]
PLAIN = "as the data are"
STRATEGIES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "domains by temperature 3": {"domain_temperature": 3.0},
    "domains evenly, weights of the data": {"domain_shares": '{"math": 1, "finance": 1}', "domain_target": "data"},
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

    def rows(domain: str, count: int, skip: int = 0) -> list[dict]:
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


def common(args: argparse.Namespace, data: str, output: Path, seed: int, steps: int) -> dict[str, Any]:
    return {
        "dataset": args.output_dir / "data" / data,
        "domain": "all",
        "output_dir": output,
        "seed": seed,
        "data_seed": seed,
        "max_steps": steps,
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": "false",
        "eval_distractors": "false",
        "eval_max_new_tokens": 160,
        "test_records": 200,
    }


def line(recipe: str, config: str, values: dict[str, Any], extra: list[str]) -> list[str]:
    pairs = [text for name, value in values.items() for text in (f"--{name}", str(value))]
    return [str(RECIPES / recipe), "--config", str(RECIPES / "configs" / config), *pairs, *extra]


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
    values = common(args, "both", output, seed, args.steps) | {
        "model_type": "qwen3",
        "model_config": json.dumps(model),
        "vocab_size": 700,
        "lr_scheduler_kwargs": json.dumps({"num_decay_steps": round(0.4 * args.steps)}),
    }
    return line("sft_cot.py", "sft_cot/demo.yaml", values | STRATEGIES[name], extra)


def adaptation(args: argparse.Namespace, name: str, seed: int, output: Path, extra: list[str]) -> list[str]:
    layers, rate = ADAPTATIONS[name]
    values = common(args, "finance", output, seed, args.adapt_steps)
    values |= {"model_name_or_path": args.base, "learning_rate": rate, "lr_scheduler_type": "cosine"}
    if layers is None:
        # the demo's config is one for a model from scratch, with Muon
        config = args.output_dir / "all_weights.yaml"
        kept = [
            text
            for text in (RECIPES / "configs/lora_reasoner/demo.yaml").read_text("utf-8").splitlines()
            if not text.startswith(("lora_", "reasoner_", "ranking_"))
        ]
        config.write_text("\n".join(kept) + "\n", encoding="utf-8")
        return line("sft_cot.py", str(config.resolve()), values, extra)
    if layers == "random":
        layers = ",".join(map(str, sorted(random.Random(seed).sample(range(LAYERS), CHOSEN))))
    values |= {"reasoner_layers": layers, "reasoner_share": CHOSEN / LAYERS}
    return line("lora_reasoner.py", "lora_reasoner/demo.yaml", values, extra)


def trained(output: Path) -> int:
    """Parameters that a run has trained, from what it saved."""
    path = output / "adapter_model.safetensors"
    with safe_open(path if path.is_file() else output / "model.safetensors", "pt") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    total = 0
    for shape in shapes:
        size = 1
        for side in shape:
            size *= side
        total += size
    return total


def figures(output: Path) -> dict[str, float]:
    results = json.loads((output / "evaluation" / "evaluation.json").read_text("utf-8"))
    history = json.loads((output / "trainer_state.json").read_text("utf-8"))["log_history"]
    found = {domain: 100 * results["by_domain"][domain]["answer_accuracy"] for domain in ("math", "finance")}
    found["steps"] = 100 * (results["step_accuracy"] or 0.0)
    found["seconds"] = next(row["train_runtime"] for row in reversed(history) if "train_runtime" in row)
    return found | {"parameters": trained(output)}


def cell(values: list[float], form: str = ".1f") -> str:
    shown = ", ".join(f"{value:{form}}" for value in values)
    return f"{sum(values) / len(values):{form}} ({shown})"


def run(args: argparse.Namespace, names: list[str], build: Any, extra: list[str]) -> dict[str, list[dict]]:
    """Train what is missing; the figures of each name, a seed an item."""
    outputs = {(name, seed): args.output_dir / f"{slug(name)}-{seed}" for name in names for seed in args.seeds}
    commands = {
        f"{name}, seed {seed}": (build(args, name, seed, output, extra), output.with_suffix(".log"))
        for (name, seed), output in outputs.items()
        if not (output / "evaluation" / "evaluation.json").is_file()
    }
    run_in_batches(commands, args.parallel)
    return {name: [figures(outputs[name, seed]) for seed in args.seeds] for name in names}


def slug(name: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--strategies", nargs="*", choices=list(STRATEGIES), default=list(STRATEGIES))
    parser.add_argument("--adaptations", nargs="*", choices=list(ADAPTATIONS), default=list(ADAPTATIONS))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--adapt_steps", type=int, default=200)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/ablate_training"))
    parser.add_argument("--parallel", type=int, default=os.cpu_count() or 1)
    args, extra = parser.parse_known_args()
    make_data(args.output_dir / "data")
    args.base = args.output_dir / f"{slug(PLAIN)}-{args.seeds[0]}"
    strategies = run(args, args.strategies, strategy, extra)
    if args.adaptations and not (args.base / "evaluation" / "evaluation.json").is_file():
        sys.exit(f"Error: there is no base in {args.base}. Run the strategy {PLAIN!r} first.")
    adaptations = run(args, args.adaptations, adaptation, extra)
    what = f"mean (seeds {', '.join(map(str, args.seeds))})"
    if strategies:
        print(f"\n| {args.steps} steps; {what} | math | finance | correct steps | seconds |\n" + "|---" * 5 + "|")
    for name, runs in strategies.items():
        cells = [cell([one[key] for one in runs]) for key in ("math", "finance", "steps")]
        print(f"| {name} | " + " | ".join(cells) + f" | {cell([one['seconds'] for one in runs], '.0f')} |")
    if not adaptations:
        return
    base = figures(args.base)
    print(f"\n| {args.adapt_steps} steps; {what} | parameters | seconds | finance | math | forgotten |")
    print("|---" * 6 + "|")
    print(f"| the base | | | {base['finance']:.1f} | {base['math']:.1f} | |")
    for name, runs in adaptations.items():
        cells = [cell([one[key] for one in runs], form) for key, form in (("seconds", ".0f"), ("finance", ".1f"))]
        cells += [cell([one["math"] for one in runs]), cell([base["math"] - one["math"] for one in runs])]
        print(f"| {name} | {runs[0]['parameters']:,.0f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
