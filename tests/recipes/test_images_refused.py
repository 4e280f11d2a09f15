"""Commands that work with text alone refuse records with images before anything is loaded, and name the record."""

import json
import re

import pytest
from datasets import Dataset, DatasetDict, load_from_disk
from pictures import png
from tiny import tiny_qwen2

from hf_reason.cli.inputs.images import refuse_images
from hf_reason.cli.main import main
from hf_reason.data import DataError
from hf_reason.data.images import first_with_images
from hf_reason.data.record import make_record, record_features
from hf_reason.trainers.grpo_data import GRPOData


def rows_of(records, seen=(), bytes_of=png):
    """The records; those at the places `seen` have a picture."""
    return [
        make_record(
            row["context"],
            row["steps"],
            row["answer"],
            domain="math",
            source=f"charts.jsonl:{place}",
            images=[{"bytes": bytes_of(place), "path": None}] if place in seen else (),
        )
        for place, row in enumerate(records)
    ]


def as_dataset(rows):
    return Dataset.from_list([{"images": [], "captions": [], **row} for row in rows], record_features(images=True))


def save(folder, **splits):
    DatasetDict({name: as_dataset(rows) for name, rows in splits.items()}).save_to_disk(folder)


def refused(capsys, *command):
    """The last line of a command that has to refuse."""
    assert main(list(command)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("Error: ")
    return error


@pytest.fixture
def place(tmp_path, records, tokenizer, monkeypatch):
    """`data`, whose tenth training record has the only picture, and a model of text."""
    monkeypatch.chdir(tmp_path)
    tiny_qwen2(tokenizer).save_pretrained("text")
    tokenizer.save_pretrained("text")
    save("data", train=rows_of(records[:20], [9]), validation=rows_of(records[20:24]), test=rows_of(records[24:28]))
    return tmp_path


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("generate-traces --teacher_model_name_or_path text --output_dir out --split train", "asked in words alone"),
        ("distill --model_name_or_path text --teacher_model_name_or_path text --output_dir out --use_cpu", "compared"),
        ("cache-teacher --teacher_model_name_or_path text --output_dir out --use_cpu", "reads text alone"),
        ("grpo --model_name_or_path text --output_dir out --use_cpu --num_generations 2", "completions to text alone"),
        ("prune --model_name_or_path text --output_dir out --use_cpu --ratio 0.5", "compressed .*on text alone"),
    ],
)
def test_the_record_and_the_option_are_named(place, capsys, monkeypatch, command, why):
    def loads(*_, **__):
        raise AssertionError("a model was loaded")

    for where in ("models.load_causal_lm", "inference.load_causal_lm"):
        monkeypatch.setattr(f"hf_reason.cli.inputs.{where}", loads)
    error = refused(capsys, *command.split(), "--dataset_name", "data")
    record = load_from_disk("data")["train"][9]["id"]
    assert f"dataset_name: record {record} (charts.jsonl:9) of " in error
    assert re.search(why, error), error
    assert "augment --captions 1 --replace" in error and "prepare --images drop" in error
    left = [path.name for path in (place / "out").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left in ([], ["run.json"]), left


def test_raw_questions_of_which_a_later_one_has_an_image(place, capsys):
    """The columns of a table are those of its first row: an image of a later one must not be lost with its column."""
    (place / "b.png").write_bytes(png(1))
    rows = [{"question": f"小明有{n}个苹果,又买来2个。现在有多少个?", "answer": f"{n + 2}个"} for n in range(3, 12)]
    rows[5]["image"] = "b.png"
    (place / "asked.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    save("plain", train=rows_of(load_from_disk("data")["validation"].to_list()))
    pruned = "prune --model_name_or_path text --ratio 0.5 --dataset_name"
    for command, option in (
        ("generate-traces --teacher_model_name_or_path text --dataset_name asked.jsonl", "dataset_name"),
        (f"{pruned} asked.jsonl --eval_dataset_name data", "dataset_name"),
        (f"{pruned} plain --eval_dataset_name asked.jsonl", "eval_dataset_name"),
    ):
        error = refused(capsys, *command.split(), "--output_dir", "out", "--use_cpu")
        assert re.search(rf"Error: (\S+: )?{option}: record \w+ \(\S*asked\.jsonl\S* ?\S*6\S*\) of", error), error


def test_images_that_only_the_test_has(place, records, capsys):
    """They would be found out at the end of the training."""
    save("late", train=rows_of(records[:20]), test=rows_of(records[24:28], [2]))
    command = ["sft", "--model_name_or_path", "text", "--dataset_name", "late", "--output_dir", "out", "--use_cpu"]
    error = refused(capsys, *command, "--max_steps", "1", "--eval_strategy", "no")
    assert "(charts.jsonl:2) of test has images, and no training record has any" in error


def test_users_of_a_circle_ask_in_words(place, capsys):
    serve = {"dtype": "float32", "max_thought_tokens": 8, "max_answer_tokens": 8}
    command = ["circle", "--model_name_or_path", "text", "--output_dir", "circle", "--crowd_dataset_name", "data"]
    command += ["--continual", json.dumps({"old_dataset": "data"})]
    error = refused(capsys, *command, "--serve", json.dumps(serve), "--use_cpu")
    assert "crowd_dataset_name: record" in error and "(charts.jsonl:9) of train has images" in error
    assert not list((place / "circle").glob("*.json"))


def test_grpo_in_python_names_the_record(records, tokenizer):
    rows = rows_of(records[:6], [3])
    data = GRPOData(tokenizer, {}, True, 16)
    for dataset in (as_dataset(rows), as_dataset(rows).to_iterable_dataset()):
        with pytest.raises(ValueError, match=rf"Record {rows[3]['id']} has images, and StepGRPOTrainer"):
            list(data.prepare(dataset, "train", tiny_qwen2(tokenizer)))
    kept = data.prepare(as_dataset(rows_of(records[:6])), "train", tiny_qwen2(tokenizer))
    assert len(kept) == 6


def test_where_the_first_image_is(records):
    many = [{**row, "context": f"{row['context']}{again}"} for again in range(45) for row in records]
    assert first_with_images(rows_of(many, [2345, 2400])) == 2345
    table = as_dataset(rows_of(many, [2345, 2400], lambda seed: b"x"))
    assert first_with_images(table) == 2345
    assert first_with_images(table.select(range(2346, 2500))) == 54
    assert first_with_images(table.select(range(2345))) is None
    assert first_with_images(Dataset.from_list([{"a": 1}])) is None
    single = Dataset.from_dict({"image": [None, {"bytes": b"x", "path": None}]})
    assert first_with_images(single) == 1
    refuse_images({"train": table.select([0]), "test": None}, "nobody reads it")
    with pytest.raises(DataError, match=r"there: record .* of test has images, and nobody reads it"):
        refuse_images({"train": table.select([0]), "test": table}, "nobody reads it", "there")
