"""A pretrained student and its teacher through the articles' flow: which way of training gains what?

    python recipes/bench/pretrained.py --student Qwen/Qwen2.5-0.5B-Instruct --teacher Qwen/Qwen2.5-1.5B-Instruct \
        --train problems.jsonl --test test_zh.jsonl test_en.jsonl

The problems need answers, and equations for the variant on equations; none of the test problems is trained on. Both
models are measured first; then come the teacher's and the student's own traces on the training problems, verified, and
a LoRA on the student for each variant, all on the same number of tokens; each is measured on each test file.

Everything that is finished is kept: run again after a stop, or with more variants, seeds and tests. Give --max_steps
for the budget, and --table for the tables of what there is.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import common

# name -> (command, data, options)
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "SFT on equations": ("sft", "equations", {}),
    "SFT on the teacher's traces": ("sft", "teacher", {}),
    "SFT on its own traces": ("sft", "student", {}),
    "KL on the teacher's traces": ("distill", "teacher", {"kl_weight": 0.5}),
    "KL with path consistency": ("distill", "teacher", {"kl_weight": 0.5, "path_weight": 0.1}),
    "GRPO, answers": ("grpo", "problems", {"step_weight": 0}),
    "GRPO, steps": ("grpo", "problems", {"step_weight": 0.5}),
}
# the same for all: a LoRA that leaves most of the model as it was
LORA = {"lora_r": 16, "lora_alpha": 32, "learning_rate": 1e-4, "lr_scheduler_type": "cosine", "warmup_steps": 0.05}
BATCH = 8
BASELINES: dict[str, dict[str, Any]] = {
    "plain": {},
    "budget": {"max_thought_tokens": "HALF"},
    "votes of 4": {"num_samples": 4, "vote": "true", "temperature": 0.7},
}
COLUMNS = ("answers", "steps", "closed", "tokens")


def test_name(path: str) -> str:
    return common.slug(Path(path).stem)


def measure(args: Any, model: Path, output: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Runs of `evaluate`, one for each test file."""
    half = args.max_completion_length // 2
    jobs = {}
    for path in args.test:
        folder = output / test_name(path)
        folder.parent.mkdir(parents=True, exist_ok=True)
        values = {name: half if value == "HALF" else value for name, value in options.items()}
        values |= {"model_name_or_path": model, "dataset_name": path, "max_records": args.test_records}
        values |= {"max_completion_length": args.max_completion_length, "batch_size": args.batch_size}
        values |= {"dtype": args.dtype, "output_dir": folder / "evaluation"}
        jobs[f"{output.name}, {test_name(path)}"] = folder, partial(common.command, "evaluate", None, values)
    return jobs


def run(name: str, output: Path, done: Callable[[Path], bool], command: list[str]) -> None:
    """Run a command unless `done` says that it has been; the log is beside the output."""
    from hf_reason.cli.side_by_side import run_in_batches

    if not done(output):
        run_in_batches({name: (command, output.with_suffix(".log"))}, 1)
    if not done(output):
        raise SystemExit(f"{name} has not ended well: see {output.with_suffix('.log')}.")


def has(file: str) -> Callable[[Path], bool]:
    """Whether the file is in the output folder, into which its command writes it last."""
    return lambda output: (output / file).exists()


def is_trained(output: Path) -> bool:
    """Whether a training has ended; without test records it has no evaluation."""
    from hf_reason.cli.resume import is_finished

    return is_finished(str(output))


def make_data(args: Any, kinds: set[str]) -> dict[str, Path]:
    """Prepared data: from the equations of the problems, and from the traces of both models."""
    folders = {kind: args.output_dir / f"data-{kind}" for kind in ("equations", "teacher", "student")}
    folders["problems"] = folders["equations"]
    for kind in sorted({"equations" if kind == "problems" else kind for kind in kinds}):
        sources: list[Any] = list(args.train)
        if kind != "equations":
            traces = args.output_dir / f"traces-{kind}"
            values = {"dataset_name": args.train, "teacher_model_name_or_path": getattr(args, kind)}
            values |= {"output_dir": traces, "max_records": args.train_records, "num_samples": args.num_samples}
            values |= {"max_completion_length": args.max_completion_length, "batch_size": args.batch_size}
            values |= {"keep": "shortest_correct", "dtype": args.dtype}
            run(f"traces of the {kind}", traces, has("traces.json"), common.command("generate-traces", None, values))
            sources = [traces]
        values = {"dataset_name": sources, "output_dir": folders[kind], "validation_size": 0.05, "test_size": 0}
        values |= {"decontaminate": args.test, "domain": "math", "min_steps": 1, "min_chars": 1}
        values |= {"tokenizer_name_or_path": args.student}
        run(f"data of {kind}", folders[kind], has("report.json"), common.command("prepare", None, values))
    return folders


def train(args: Any, name: str, seed: int, data: Mapping[str, Path]) -> Path:
    """Train a variant; its output folder, with the adapter."""
    command, kind, options = VARIANTS[name]
    output: Path = args.output_dir / f"{common.slug(name)}-{seed}"
    values: dict[str, Any] = {"model_name_or_path": args.student, "dataset_name": data[kind], "domain": "math"}
    values |= {"output_dir": output, "seed": seed, "dtype": args.dtype, "report_to": "none", **LORA, **options}
    values |= {"save_strategy": "no", "eval_strategy": "no", "max_test_records": 1, "logging_steps": 5}
    values |= {"eval_max_completion_length": args.max_completion_length}
    if command == "grpo":
        values |= {"max_steps": args.grpo_steps, "max_completion_length": args.max_completion_length}
        values |= {"num_generations": 8, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}
    else:
        values |= {"max_steps": steps_of(args, data[kind], data["teacher"]), "per_device_train_batch_size": BATCH}
        values |= {"max_length": 2 * args.max_completion_length}
    if command == "distill":
        cache = Path(f"{data[kind]}-teacher")
        extra = {"path_consistency": "true"} if "path_weight" in options else {}
        wanted = {"dataset_name": data[kind], "teacher_model_name_or_path": args.teacher, "splits": "train"}
        wanted |= {"tokenizer_name_or_path": args.student, "batch_size": 4, **extra}
        wanted |= {"teacher_model_init_kwargs": json.dumps({"dtype": args.dtype})}
        cache = cache.with_name(cache.name + ("-path" if extra else ""))
        wanted["output_dir"] = cache
        run("the teacher's distributions", cache, has("cache.json"), common.command("cache-teacher", None, wanted))
        values["teacher_model_name_or_path"] = cache
    run(f"{name}, seed {seed}", output, is_trained, common.command(command, None, values, args.extra))
    return output


def mean_tokens(folder: Path) -> float:
    report = json.loads((folder / "report.json").read_text("utf-8"))
    return float(report["tokens"]["distributions"]["all"]["mean"])


def steps_of(args: Any, data: Path, measure_of: Path) -> int:
    """Steps in which this data has as many tokens as the teacher's traces have in `--max_steps`."""
    if data == measure_of or not (measure_of / "report.json").is_file():
        return int(args.max_steps)
    return max(1, round(args.max_steps * mean_tokens(measure_of) / mean_tokens(data)))


def print_tables(args: Any) -> None:
    rows: dict[str, list[list[Path]]] = {}
    for role in ("student", "teacher"):
        for name in BASELINES:
            rows[f"{role}, {name}"] = [[args.output_dir / f"{role}-{common.slug(name)}"]]
    for name in VARIANTS:
        rows[name] = [[args.output_dir / "measured" / f"{common.slug(name)}-{seed}" for seed in args.seeds]]
    for path in args.test:
        found = []
        for name, (folders,) in rows.items():
            done = [folder / test_name(path) for folder in folders if common.is_finished(folder / test_name(path))]
            if done:
                found.append([name, *cells([common.result_of(folder) for folder in done])])
        if found:
            print(f"\n{Path(path).name}")
            common.print_markdown(["", *COLUMNS], found)


def cells(results: list[Any]) -> list[str]:
    def of(name: str, form: str) -> str:
        values = [value for result in results if (value := read(result, name)) is not None]
        if not values:
            return "-"
        return common.mean_and_range(values, form) if len(values) > 1 else f"{values[0]:{form}}"

    answers = of("answers", ".1%")
    if len(results) == 1 and results[0].answer_accuracy_ci is not None:
        low, high = results[0].answer_accuracy_ci
        answers += f" ({low:.1%}-{high:.1%})"
    return [answers, of("steps", ".1%"), of("closed", ".1%"), of("tokens", ".0f")]


def read(result: Any, name: str) -> float | None:
    found = {
        "answers": result.answer_accuracy,
        "steps": result.step_accuracy,
        "closed": result.close_rate,
        "tokens": result.reasoning_length.mean_tokens,
    }[name]
    return None if found is None else float(found)


def main() -> None:
    parser = common.parser(__doc__)
    common.add_run_options(parser, "outputs/pretrained")
    parser.add_argument("--student", required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--train", nargs="+", required=True, help="Raw files of problems with answers.")
    parser.add_argument("--test", nargs="+", required=True, help="Raw files; each is a table.")
    parser.add_argument("--train_records", type=int, default=400, help="Problems for the traces.")
    parser.add_argument("--test_records", type=int, default=200, help="Of each test file.")
    parser.add_argument("--num_samples", type=int, default=2, help="Traces of each problem.")
    parser.add_argument("--max_steps", type=int, default=100, help=f"Steps of {BATCH} of the teacher's traces.")
    parser.add_argument("--grpo_steps", type=int, default=20)
    parser.add_argument("--max_completion_length", type=int, default=400)
    parser.add_argument("--batch_size", type=int, default=50, help="Sequences generated at once.")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--variants", nargs="*", choices=[*VARIANTS], default=[*VARIANTS])
    parser.add_argument("--baselines", nargs="*", choices=[*BASELINES], default=[*BASELINES])
    parser.add_argument("--table", action="store_true", help="Print the tables of what is finished; run nothing.")
    args, args.extra = parser.parse_known_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    if not args.table:
        for role in ("student", "teacher"):
            for name in args.baselines:
                output = args.output_dir / f"{role}-{common.slug(name)}"
                common.run_missing(measure(args, getattr(args, role), output, BASELINES[name]), args.parallel)
        data = make_data(args, {VARIANTS[name][1] for name in args.variants})
        for name in args.variants:
            for seed in args.seeds:
                output = train(args, name, seed, data)
                measured = args.output_dir / "measured" / output.name
                common.run_missing(measure(args, output, measured, {}), args.parallel)
    print_tables(args)


if __name__ == "__main__":
    main()
