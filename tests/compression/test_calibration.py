"""Calibration: whole reference chains, the model's own verified ones, windows of a text; resumed, and refused."""

import json

import pytest

from hf_reason.compression import CalibrationError, calibration, own_chains, reference_chains, text_windows
from hf_reason.text import encode


def test_reference_chains_are_whole_and_not_too_long(records, tokenizer):
    found = reference_chains(records, tokenizer, 10, max_length=400, seed=1)
    whole = {tuple(encode(record, tokenizer)["input_ids"]) for record in records}
    assert len(found.examples) == 10 and all(tuple(row["input_ids"]) in whole for row in found.examples)
    assert all(len(row["input_ids"]) == len(row["labels"]) <= 400 for row in found.examples)
    assert found.examples == reference_chains(records, tokenizer, 10, max_length=400, seed=1).examples
    assert "calibration on 10 texts (traces; of 60)" in str(found)
    with pytest.raises(CalibrationError, match=r"needs 61 records with steps, but of 60 there are 60.*--calibration"):
        reference_chains(records, tokenizer, 61)


def test_windows_of_a_text(tmp_path, tokenizer):
    path = tmp_path / "book.txt"
    path.write_text("从前有一座山,山上有一座庙。" * 40, encoding="utf-8")
    found = text_windows(path, tokenizer, 3, max_length=16)
    assert [len(row["input_ids"]) for row in found.examples] == [16] * 3
    with pytest.raises(CalibrationError, match="needs 900 windows of 16 tokens"):
        text_windows(path, tokenizer, 900, max_length=16)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CalibrationError, match="book.txt cannot be read as a UTF-8 text"):
        text_windows(path, tokenizer, 3)


class _Result:
    def __init__(self, rows):
        self.predictions = rows


@pytest.fixture
def model_of_its_own(monkeypatch, tiny_model):
    """A model whose outputs are given: right, wrong, right with a wrong step, never closed, and so on in turn."""
    asked = []

    def evaluate_model(model, tokenizer, records, **_):
        rows = []
        for record in records:
            kind = len(asked) % 4
            asked.append(record["context"])
            rows.append(
                {
                    "prompt": f"问题:{record['context']}\n回答:",
                    "text": f"<think>\n步骤1:{'1+1=2' if kind != 2 else '1+1=3'}\n</think>\n\n{record['answer']}",
                    "steps": ["1+1=2" if kind != 2 else "1+1=3"],
                    "answer": record["answer"],
                    "correct": kind != 1,
                    "closed": kind != 3,
                    "num_tokens": 20,
                    "thought_tokens": 10,
                }
            )
        return _Result(rows)

    monkeypatch.setattr(calibration, "evaluate_model", evaluate_model)
    return tiny_model, asked


def test_own_chains_are_right_in_answer_and_steps(model_of_its_own, records, tokenizer, tmp_path):
    model, asked = model_of_its_own
    found = own_chains(model, tokenizer, records, 5, path=tmp_path / "chains.jsonl", batch_size=4)
    assert len(found.examples) == 5 and found.tried == len(asked) == 20, "one of four is right"
    first = found.examples[0]
    start = next(place for place, label in enumerate(first["labels"]) if label != -100)
    assert "1+1=2" in tokenizer.decode(first["input_ids"][start:]) and "问题" in tokenizer.decode(
        first["input_ids"][:start]
    )
    rows = [json.loads(line) for line in (tmp_path / "chains.jsonl").read_text().splitlines()[1:]]
    assert [row["right"] for row in rows] == [True, False, False, False] * 5


@pytest.mark.parametrize("stray", [False, True])
def test_a_model_that_writes_no_tags_has_right_chains_too(
    tiny_model, records, tokenizer, tmp_path, monkeypatch, stray
):
    """Prose has no thought to close, also where one output of the batch has a tag."""

    def evaluate_model(model, tokenizer, asked, **options):
        rows = []
        for number, record in enumerate(asked):
            equation = "2+2=5" if number % 4 == 1 else "2+2=4"
            text = f"先把两个数加起来,{equation}。\n\n所以答案是{record['answer']}。"
            if stray and number == 3:
                text = "<think>\n" + text
            cut = {"num_tokens": 100 if number % 4 == 2 else 20, "thought_tokens": 15}
            closed = None if not stray else False
            steps = {"steps": [], "answer": record["answer"], "correct": True}
            prompt = f"<|im_start|>user\n{record['context']}<|im_end|>\n<|im_start|>assistant\n"
            rows.append({"prompt": prompt, "text": text, "closed": closed, **steps, **cut})
        return _Result(rows)

    monkeypatch.setattr(calibration, "evaluate_model", evaluate_model)
    found = own_chains(
        tiny_model, tokenizer, records, 5, path=tmp_path / "chains.jsonl", batch_size=8, max_completion_length=100
    )
    rows = [json.loads(line)["right"] for line in (tmp_path / "chains.jsonl").read_text().splitlines()[1:]]
    assert rows[:8] == [True, False, False, not stray, True, False, False, True]
    assert len(found.examples) == 5


def test_a_killed_run_asks_only_what_is_missing(model_of_its_own, records, tokenizer, tmp_path):
    model, asked = model_of_its_own
    path = tmp_path / "chains.jsonl"
    whole = own_chains(model, tokenizer, records, 5, path=path, batch_size=4)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:9]) + lines[9][:7])  # killed in the middle of a line
    asked.clear()
    again = own_chains(model, tokenizer, records, 5, path=path, batch_size=4)
    assert len(asked) == 12 and again.examples == whole.examples
    asked.clear()
    own_chains(model, tokenizer, records, 5, path=path, batch_size=4, max_completion_length=77)
    assert len(asked) == 20, "other settings begin anew"


def test_too_few_right_ones(model_of_its_own, records, tokenizer, tmp_path):
    model, asked = model_of_its_own
    with pytest.raises(CalibrationError, match="needs 128 verified chains of the model's own, but of 60 there are 15"):
        own_chains(model, tokenizer, records, 128, path=tmp_path / "chains.jsonl", batch_size=16)
