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
from functools import partial
from pathlib import Path
from typing import Any

import common

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
        "dataset_name": args.dataset_name,
        "output_dir": output,
        "seed": seed,
        "model_type": model_type,
        "model_config": json.dumps(settings),
        "max_steps": steps,
        "lr_scheduler_kwargs": json.dumps({"num_decay_steps": int(0.4 * steps)}),
        "max_test_records": args.max_test_records,
        # nothing but training inside the time that is measured
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": "false",
    }
    return common.command("sft", common.CONFIGS / "sft_cot" / "demo.yaml", values, extra)


def train(args: argparse.Namespace, jobs: list[tuple[str, int, int, Path]], extra: list[str]) -> None:
    """Run what is not finished, `--parallel` runs at a time."""
    runs = {
        f"{model}, seed {seed}, {steps} steps": (output, partial(command, args, model, seed, steps, output, extra))
        for model, seed, steps, output in jobs
    }
    common.run_missing(runs, args.parallel)


def figures(output: Path) -> dict[str, float]:
    """What one run left behind."""
    result = common.result_of(output)
    groups = result.by_num_steps
    return {
        "steps": max(common.logged(output, "step")),
        "million tokens": max(common.logged(output, "num_tokens")) / 1e6,
        "seconds": common.training_seconds(output),
        "exact": result.answer_accuracy or 0.0,
        "correct steps": result.step_accuracy or 0.0,
        **{f"{n} operations": groups[n].answer_accuracy or 0.0 for n in OPERATIONS if n in groups},
    }


def cell(name: str, values: list[float]) -> str:
    if name in ("exact", "correct steps"):
        return common.mean_and_range(values)
    form = {"steps": ".0f", "seconds": ".0f", "million tokens": ".2f"}.get(name, ".1%")
    return f"{sum(values) / len(values):{form}}"


def print_models(title: str, models: dict[str, list[dict[str, float]]]) -> None:
    first = next(iter(models.values()))
    rows = [[model, *(cell(name, [run[name] for run in runs]) for name in first[0])] for model, runs in models.items()]
    common.print_markdown([f"{title}; {len(first)} seeds, mean (lowest-highest)", *first[0]], rows)


def main() -> None:
    parser = common.parser(__doc__)
    common.add_run_options(parser, "outputs/ablate_step_reasoner")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--dataset_name", type=Path, default=Path("outputs/demo/data"))
    parser.add_argument("--max_test_records", type=int, default=400)
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
        return args.output_dir / f"{common.slug(model)}-{kind}-{seed}"

    equal = {m: [(m, s, args.steps, output(m, s, "steps")) for s in args.seeds] for m in args.models}
    train(args, [equal[m][i] for i in range(len(args.seeds)) for m in args.models], extra)
    rows = {model: [figures(job[3]) for job in jobs] for model, jobs in equal.items()}
    print_models("equal parameters", rows)
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
    print_models("equal training time", {REFERENCE: rows[REFERENCE], **later})


if __name__ == "__main__":
    main()
