"""Options are part of the question in every layout, and the right one is told by its letter."""

import json

import pytest
from trace_files import one, write_jsonl

from hf_reason.data import read_evaluation_records
from hf_reason.data.read.evaluation import read_problems
from hf_reason.data.read.options import options_of, with_options

Q, TEXTS = "3+4=?", ["6", "7", "8", "9"]
ASKED = "3+4=?\nA. 6\nB. 7\nC. 8\nD. 9"
COLUMNS = (
    dict(zip("ABCD", TEXTS, strict=True)),
    {"A": 6, "B": 7, "C": 8, "D": 9},
    {"options": TEXTS},
    {"Options": TEXTS},
    {"选项": TEXTS},
    {"options": dict(zip("ABCD", TEXTS, strict=True))},
    {"choices": {"text": TEXTS, "label": list("ABCD")}},
    {"choices": [{"label": label, "text": text} for label, text in zip("ABCD", TEXTS, strict=True)]},
    {"options": [f"{label}. {text}" for label, text in zip("ABCD", TEXTS, strict=True)]},
    {"options": "A. 6\nB. 7\nC. 8\nD. 9"},
    {"options": json.dumps(TEXTS)},
    {"choices": "['6' '7' '8' '9']"},
    {f"option_{letter}": text for letter, text in zip("abcd", TEXTS, strict=True)},
    {f"option{letter}": text for letter, text in zip("ABCD", TEXTS, strict=True)},
    {f"op{letter}": text for letter, text in zip("abcd", TEXTS, strict=True)},
    {f"选项{letter}": text for letter, text in zip("ABCD", TEXTS, strict=True)},
    {f"Option {letter}": text for letter, text in zip("ABCD", TEXTS, strict=True)},
    {f"Choice_{letter}": text for letter, text in zip("ABCD", TEXTS, strict=True)},
)
ANSWERS = (
    *({"answer": "B"}, {"answer": 1}, {"answer": "7"}, {"answerKey": "B"}, {"label": 1}, {"label": "1"}),
    *({"cop": 1}, {"answer_index": 1}, {"答案": "B"}, {"correct_answer": "7"}),
)


@pytest.mark.parametrize("columns", COLUMNS, ids=str)
def test_any_columns_and_any_answer(tmp_path, columns):
    rows = [{"question": Q, **columns, **answer} for answer in ANSWERS]
    for row in rows:
        (record,) = read_evaluation_records(write_jsonl(tmp_path / "a.jsonl", [row]), domain="math")
        assert (record["context"], record["answer"]) == (ASKED, "B"), row
    trace = one(tmp_path, {"question": Q, **columns, "cot": "3+4=7", "answer": "选B。"})
    assert (trace.context, trace.thought, trace.answer) == (ASKED, "3+4=7", "选B。")
    (problem,) = read_problems(write_jsonl(tmp_path / "a.jsonl", [{"question": Q, **columns}]))
    assert problem == ("a.jsonl#1", ASKED)


def test_options_that_the_question_has_already(tmp_path):
    assert with_options(ASKED, options_of({"options": TEXTS})) == ASKED
    assert with_options("下面的6、7、8、9中哪个是3+4？", options_of({"options": TEXTS})).endswith("\nD. 9")


@pytest.mark.parametrize(
    "row", [{}, {"A": "x"}, {"options": []}, {"options": 3}, {"options": "见下表"}, {"choices": [None]}]
)
def test_what_is_no_list_of_options(row):
    assert options_of(row) == []


def test_numbers_of_other_labels():
    options = options_of({"choices": {"text": ["x", "y"], "label": ["1", "2"]}})
    assert with_options("q", options) == "q\n1. x\n2. y"


@pytest.mark.parametrize("name", ["option{}", "Option {}", "选项{}", "choice_{}"])
@pytest.mark.parametrize(
    ("answer", "asked", "right"),
    [
        ("2", "3+4=?\n1. 6\n2. 7\n3. 8", "2"),
        (2, "3+4=?\n1. 6\n2. 7\n3. 8", "2"),
        ("B", "3+4=?\nA. 6\nB. 7\nC. 8", "B"),
    ],
)
def test_numbered_columns(tmp_path, name, answer, asked, right):
    row = {"question": Q, **{name.format(place): text for place, text in enumerate(TEXTS[:3], 1)}, "answer": answer}
    (record,) = read_evaluation_records(write_jsonl(tmp_path / "a.jsonl", [row]), domain="math")
    assert (record["context"], record["answer"]) == (asked, right)
