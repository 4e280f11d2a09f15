"""What the data are worth: distractors, filters, and how many of a teacher's chains, on word problems.

    make demo                                                   (once: it trains the base)
    python recipes/bench/ablate_data.py --seeds 0 1 2

All runs train the demo's model further on new problems of 2 and 3 operations, and test it on 200 others, answered
greedily. Distractors: copies of a fraction of the records (`augment`). Filters: a corpus in which three fifths of the
traces are bad, a quarter of these in each of four ways (loops, cut answers, chains that go on in English, wrong
results), prepared with all filters, without the one that is for them, and without any of the four. Samples: traces of
a teacher that checks about half of its steps, one or four a problem, all right ones or the shortest
(`generate-traces`); the teacher is the demo's model, trained to check. All have as many updates. The seed sets the
order of the data; base, teacher and data are the same. Finished runs are not repeated. Unknown arguments go to the
training runs.
"""

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import common
import yaml
from datasets import Dataset, DatasetDict, load_from_disk

from hf_reason.cli.main import main as hf_reason
from hf_reason.data.record import make_record
from hf_reason.data.synthetic.word_problems import generate_word_problems

FRACTIONS = (0.0, 0.25, 0.5)
BAD = ("repetition", "truncated", "language_drift", "wrong_answer")
SAMPLES = {
    "1 sample, right": (1, "correct"),
    "4, all right": (4, "correct"),
    "4, shortest right": (4, "shortest_correct"),
}
GROUPS = {
    "distractors": [f"distractors {fraction}" for fraction in FRACTIONS],
    "filters": ["all filters", *(f"without {name}" for name in BAD), "no filters"],
    "samples": list(SAMPLES),
}
SHARE = 0.15
TEACHER = "teacher"
_ENGLISH = {"+": "Adding gives", "-": "Taking away gives", "×": "Multiplying gives", "÷": "Dividing gives"}


# Data


def problems(count: int, skip: int = 0) -> list[dict[str, Any]]:
    """Problems of 2 and 3 operations."""
    return list(generate_word_problems(skip + count, seed=11, max_operations=3))[skip:]


def records(rows: list[dict[str, Any]]) -> list[Any]:
    return [make_record(row["context"], row["steps"], row["answer"], domain="math") for row in rows]


def with_test(train: Any, folder: Path) -> None:
    """Save a training split beside the test split of all runs."""
    test = Dataset.from_list(records(problems(200)))
    DatasetDict({"train": train, "test": test}).save_to_disk(folder)


def bad(row: dict[str, Any], kind: str, rng: random.Random) -> dict[str, Any]:
    """A trace that the filter of that name is for."""
    steps, answer = list(row["steps"]), row["answer"]
    found = {"context": row["context"], "reference_answer": answer}
    if kind == "repetition":
        steps = [*steps[:-1], *[steps[-1]] * 12]
    elif kind == "truncated":  # nothing to compare: another filter would find them, too
        steps = [*steps[:-1], steps[-1][: len(steps[-1]) // 2]]
        return found | {"steps": steps, "answer": "所以答案是:", "finish_reason": "length", "reference_answer": None}
    elif kind == "language_drift":
        for place, step in enumerate(steps[1:], 1):
            equation = step.rpartition(":")[2].rstrip("".join(filter(str.isalpha, step)))
            sign = next(sign for sign in _ENGLISH if sign in equation)
            steps[place] = f"{_ENGLISH[sign]} what the next part of the question needs: {equation}"
    else:  # the last result is wrong, and so is the answer
        head, _, result = steps[-1].rpartition("=")
        value = "".join(filter(str.isdigit, result))
        wrong = str(int(value) + rng.choice([-10, -2, -1, 1, 2, 10]))
        steps[-1] = f"{head}={result.replace(value, wrong)}"
        answer = answer.replace(value, wrong)
    return found | {"steps": steps, "answer": answer}


def corpus(count: int) -> list[dict[str, Any]]:
    """Raw traces of math problems; `SHARE` of each bad kind."""
    rows = []
    for row in problems(count, 200):
        rng = random.Random(row["context"])
        kind = int(rng.random() / SHARE)
        good = {"context": row["context"], "steps": row["steps"], "answer": row["answer"]}
        rows.append(bad(row, BAD[kind], rng) if kind < len(BAD) else good | {"reference_answer": row["answer"]})
    return rows


def checked(row: dict[str, Any]) -> dict[str, Any]:
    """The problem, with a check after about half of its steps."""
    rng, steps = random.Random(row["context"]), []
    for step in row["steps"]:
        steps.append(step)
        sides = step.rpartition(":")[2]
        sign = next(sign for sign in "+-×÷" if sign in sides)
        left, right = sides.split("=")
        first, second = left.split(sign)
        result = "".join(filter(str.isdigit, right))
        back = {"+": "-", "-": "+", "×": "÷", "÷": "×"}[sign]
        if rng.random() < 0.5:
            steps.append(f"检查:{result}{back}{second}={first}")
    return {**row, "steps": steps}


def run(*words: Any) -> None:
    """One command of hf-reason, in this process: Python takes longer to start than most of these models to train."""
    if code := hf_reason(list(map(str, words))):
        sys.exit(code)


def prepare(source: Path, folder: Path, *words: Any) -> None:
    """Records of raw traces, all of them in the training split, beside the common test."""
    raw = folder.with_name(f"{folder.name}-prepared")
    run("prepare", "--dataset_name", source, "--output_dir", raw, "--min_steps", 2, "--test_size", 0, *words,
        "--validation_size", 0, "--overwrite", "true")  # fmt: skip
    with_test(load_from_disk(raw)["train"], folder)


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def make_data(args: argparse.Namespace, name: str) -> None:
    """The data of a run; what is there is left alone."""
    folder = data_of(args, name)
    if (folder / "dataset_dict.json").is_file():
        return
    if name == TEACHER:
        with_test(Dataset.from_list(records(list(map(checked, problems(args.records, 10_000))))), folder)
    elif name in GROUPS["distractors"]:
        plain = data_of(args, GROUPS["distractors"][0])
        if folder == plain:
            with_test(Dataset.from_list(records(problems(args.records, 200))), folder)
        else:
            make_data(args, GROUPS["distractors"][0])
            run("augment", "--dataset_name", plain, "--output_dir", folder, "--distractors", name.split()[-1])
    elif name in GROUPS["filters"]:
        off = {"all filters": (), "no filters": BAD}.get(name, (name.split()[-1],))
        raw = jsonl(args.output_dir / "data/bad.jsonl", corpus(args.records))
        prepare(raw, folder, *(["--skip", *off] if off else []))
    else:
        count, keep = SAMPLES[name]
        asked = [{"question": row["context"], "answer": row["answer"]} for row in problems(args.problems, 6000)]
        source, traces = jsonl(args.output_dir / "data/problems.jsonl", asked), args.output_dir / "data/traces"
        run("generate-traces", "--dataset_name", source, "--teacher_model_name_or_path", args.output_dir / TEACHER,
            "--output_dir", traces, "--num_samples", count, "--keep", keep, "--temperature", 1.0, "--batch_size", 100,
            "--max_completion_length", 160)  # fmt: skip
        prepare(traces, folder, "--duplicate_threshold", 1)


def data_of(args: argparse.Namespace, name: str) -> Path:
    return args.output_dir / "data" / common.slug(name)


# Runs


def train(args: argparse.Namespace, name: str, seed: int, extra: list[str]) -> Path:
    """Train on the data of that name, unless that is done; returns where."""
    output = args.output_dir / (TEACHER if name == TEACHER else f"{common.slug(name)}-{seed}")
    if common.is_finished(output):
        return output
    make_data(args, name)
    config = args.output_dir / "further.yaml"
    settings = yaml.safe_load((common.CONFIGS / "lora_reasoner/demo.yaml").read_text("utf-8"))
    kept = {key: value for key, value in settings.items() if not key.startswith(("lora_", "reasoner_", "ranking_"))}
    config.write_text(yaml.safe_dump(kept), encoding="utf-8")
    values = {
        "model_name_or_path": args.model_name_or_path,
        "dataset_name": data_of(args, name),
        "domain": "all",
        "output_dir": output,
        "seed": seed,
        "max_steps": args.steps,
        "learning_rate": args.learning_rate,
        "warmup_steps": 10,
        "eval_strategy": "no",
        "save_strategy": "no",
        "eval_distractors": "true" if name in GROUPS["distractors"] else "false",
        "eval_max_completion_length": 160,
        "eval_generation_batch_size": 200,
    }
    run(*common.command("sft", config, values, extra)[2:])
    return output


def figures(output: Path) -> dict[str, float]:
    result = common.result_of(output)
    right = result.answer_accuracy or 0.0
    return {
        "right": right,
        "with a distractor": right * (result.distractor_resistance or 0.0),
        "closed": result.close_rate or 0.0,
        "loops": result.repeat_rate or 0.0,
        "Chinese": result.language_ratio or 0.0,
        "tokens": result.reasoning_length.mean_tokens or 0.0,
    }


COLUMNS = {
    "distractors": ["right", "with a distractor"],
    "filters": ["right", "closed", "loops", "Chinese"],
    "samples": ["right", "tokens"],
}


def table(args: argparse.Namespace, group: str, found: dict[str, list[dict[str, float]]]) -> None:
    """The figures of the seeds so far."""
    rows = []
    for name in GROUPS[group]:
        forms = [(column, ".1f" if column == "tokens" else ".1%") for column in COLUMNS[group]]
        cells = [common.mean_and_range([one[column] for one in found[name]], form) for column, form in forms]
        rows.append([name, f"{len(load_from_disk(data_of(args, name))['train']):,}", *cells])
    seeds = len(found[GROUPS[group][0]])
    common.print_markdown([f"{args.steps} updates, {seeds} seeds", "records", *COLUMNS[group]], rows)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/ablate_data"))
    parser.add_argument("--groups", nargs="+", choices=list(GROUPS), default=list(GROUPS))
    parser.add_argument("--model_name_or_path", default="outputs/demo/demo", help="The base.")
    parser.add_argument("--records", type=int, default=3000, help="Traces before filters and distractors.")
    parser.add_argument("--problems", type=int, default=400, help="Problems that the teacher is asked.")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    args, extra = parser.parse_known_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    if "samples" in args.groups:
        train(args, TEACHER, 0, extra)
    names = [name for group in args.groups for name in GROUPS[group]]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for seed in args.seeds:  # one seed of all first
        for name in names:
            found[name].append(figures(train(args, name, seed, extra)))
        for group in args.groups:
            table(args, group, found)


if __name__ == "__main__":
    main()
