"""StepReasoner against a decoder-only model on the demo's word problems: equal parameters, then equal training time.

    make demo                                                   (once: it prepares the data)
    python recipes/bench/ablate_step_reasoner.py --seeds 0 1 2

Every model has the same width and number of layers, so the same number of parameters (plan slots add a few). First all
train for the same number of steps. Then each StepReasoner trains again for as many steps as fit into the time that the
decoder-only model took; its speed is that of its own first run. The seed sets the weights and the order of the data;
the data are the same. Runs that are finished are not repeated; unknown arguments go to the training recipe.
"""

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any

from hf_reason.cli import run_side_by_side

RECIPES = Path(__file__).parents[1]
REFERENCE = "decoder-only"
OPERATIONS = ("2", "3", "4", "5", "6")


def stack(encoder: int, reasoner: int, decoder: int, **more: Any) -> dict[str, Any]:
    layers = {"num_encoder_layers": encoder, "num_reasoner_layers": reasoner, "num_decoder_layers": decoder}
    return {"model_type": "step_reasoner", **layers, "plan_slots": 0, "triggers": [], **more}


MODELS: dict[str, dict[str, Any]] = {
    REFERENCE: {"model_type": "qwen2", "num_hidden_layers": 7},
    # the same with a norm on queries and keys, which every StepReasoner here has
    "decoder-only, QK norm": {"model_type": "qwen3", "num_hidden_layers": 7, "head_dim": 24},
    "4/0/3": stack(4, 0, 3),
    "2/2/3": stack(2, 2, 3),
    "2/2/3, trigger": stack(2, 2, 3, triggers=["="]),
    "2/2/3, slots": stack(2, 2, 3, plan_slots=2),
    "2/2/3, trigger, slots": stack(2, 2, 3, triggers=["="], plan_slots=2),
    "4/2/1, trigger, slots": stack(4, 2, 1, triggers=["="], plan_slots=2),
    "3/2/2, trigger, slots": stack(3, 2, 2, triggers=["="], plan_slots=2),
    "1/3/3, trigger, slots": stack(1, 3, 3, triggers=["="], plan_slots=2),
}


def command(args: argparse.Namespace, model: str, seed: int, steps: int, output: Path, extra: list[str]) -> list[str]:
    settings = {**args.model_config, **MODELS[model]}
    model_type = settings.pop("model_type")
    values = {
        "dataset": args.data,
        "output_dir": output,
        "seed": seed,
        "model_type": model_type,
        "model_config": json.dumps(settings),
        "max_steps": steps,
        "lr_scheduler_kwargs": json.dumps({"num_decay_steps": int(0.4 * steps)}),
        "test_records": args.test_records,
        # nothing but training inside the time that is measured
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": "false",
    }
    pairs = [text for key, value in values.items() for text in (f"--{key}", str(value))]
    yaml = str(RECIPES / "configs" / "sft_cot" / "demo.yaml")
    return [str(RECIPES / "sft_cot.py"), "--config", yaml, *pairs, *extra]


def train(args: argparse.Namespace, jobs: list[tuple[str, int, int, Path]], extra: list[str]) -> None:
    """Run what is not finished, `--parallel` runs at a time."""
    jobs = [job for job in jobs if not (job[3] / "evaluation" / "evaluation.json").is_file()]
    for start in range(0, len(jobs), args.parallel):
        batch = jobs[start : start + args.parallel]
        run_side_by_side(
            {
                f"{model}, seed {seed}, {steps} steps": (
                    command(args, model, seed, steps, output, extra),
                    output.with_suffix(".log"),
                )
                for model, seed, steps, output in batch
            },
            threads=max(1, (os.cpu_count() or 1) // args.parallel),
        )


def figures(output: Path) -> dict[str, float]:
    """What one run left behind."""
    results = json.loads((output / "evaluation" / "evaluation.json").read_text())
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    groups = results["by_num_steps"]
    return {
        "steps": max(row["step"] for row in history),
        "million tokens": max(row.get("num_tokens", 0.0) for row in history) / 1e6,
        "seconds": next(row["train_runtime"] for row in reversed(history) if "train_runtime" in row),
        "exact": results["answer_accuracy"],
        "correct steps": results["step_accuracy"] or 0.0,
        **{f"{n} operations": groups[n]["answer_accuracy"] for n in OPERATIONS if n in groups},
    }


def cell(name: str, values: list[float]) -> str:
    mean = sum(values) / len(values)
    if name in ("steps", "seconds"):
        return f"{mean:.0f}"
    if name == "million tokens":
        return f"{mean:.2f}"
    spread = f" ({min(values):.1%}-{max(values):.1%})" if name in ("exact", "correct steps") else ""
    return f"{mean:.1%}{spread}"


def table(title: str, rows: dict[str, list[dict[str, float]]]) -> str:
    names = list(next(iter(rows.values()))[0])
    seeds = len(next(iter(rows.values())))
    lines = [f"| {title}; {seeds} seeds, mean (lowest-highest) | " + " | ".join(names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for model, runs in rows.items():
        lines.append(f"| {model} | " + " | ".join(cell(name, [run[name] for run in runs]) for name in names) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--data", type=Path, default=Path("outputs/demo/data"))
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/ablate_step_reasoner"))
    parser.add_argument("--test_records", type=int, default=400)
    parser.add_argument("--parallel", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no_equal_time", action="store_true", help="only the runs of equal steps")
    parser.add_argument(
        "--model_config",
        type=json.loads,
        default={
            "hidden_size": 96,
            "intermediate_size": 288,
            "num_attention_heads": 4,
            "max_position_embeddings": 512,
            "tie_word_embeddings": True,
        },
        help="JSON of the fields that all models share",
    )
    args, extra = parser.parse_known_args()
    if REFERENCE not in args.models:
        args.models.insert(0, REFERENCE)
    args.output_dir.mkdir(parents=True, exist_ok=True)

    def output(model: str, seed: int, kind: str) -> Path:
        return args.output_dir / f"{re.sub('[^a-z0-9]+', '-', model.lower())}-{kind}-{seed}"

    equal = {m: [(m, s, args.steps, output(m, s, "steps")) for s in args.seeds] for m in args.models}
    train(args, [equal[m][i] for i in range(len(args.seeds)) for m in args.models], extra)
    rows = {model: [figures(job[3]) for job in jobs] for model, jobs in equal.items()}
    print("\n" + table("equal parameters", rows), flush=True)
    if args.no_equal_time:
        return
    speed = {m: sum(r["seconds"] for r in runs) / sum(r["steps"] for r in runs) for m, runs in rows.items()}
    timed = {
        m: [(m, s, round(args.steps * speed[REFERENCE] / speed[m]), output(m, s, "time")) for s in args.seeds]
        for m in args.models
        if m != REFERENCE
    }
    train(args, [timed[m][i] for i in range(len(args.seeds)) for m in timed], extra)
    later = {model: [figures(job[3]) for job in jobs] for model, jobs in timed.items()}
    print("\n" + table("equal training time", {REFERENCE: rows[REFERENCE], **later}), flush=True)


if __name__ == "__main__":
    main()
