"""Evaluation files in every layout, with and without chains, as traces and as records."""

import json

import pytest
from trace_files import write_jsonl

from hf_reason.data import DataError, read_evaluation_records
from hf_reason.data.read.evaluation import read_problems
from hf_reason.data.read.rows import BrokenRow

Q, A = "小明有3个苹果，又买4个，一共几个？", "7个"


@pytest.mark.parametrize(
    "row",
    [
        {"question": Q, "answer": A},
        {"problem": Q, "answer": A, "level": 3},
        {"题目": Q, "答案": A},
        {"问题": Q, "标准答案": A},
        {"instruction": Q, "input": "", "output": A},
        {"prompt": Q, "completion": A},
        {"question": Q, "target": A},
        {"query": Q, "gold": A},
        {"messages": [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]},
        {"messages": [{"role": "user", "content": Q}], "answer": A},
        {"prompt": [{"role": "user", "content": Q}], "solution": A},
        {"prompt": [{"role": "user", "content": Q}], "reward_model": {"style": "rule", "ground_truth": A}},
        {"prompt": [{"role": "user", "content": Q}], "extra_info": {"answer": A, "index": 0}},
        {"input": [{"role": "user", "content": Q}], "ideal": A},
        {"conversations": [{"from": "human", "value": Q}], "target": A},
        {"Problem": Q, "Answer": A},
        {"題目": Q, "參考答案": A},
        {"question": Q, "expected_answer": A},
        {"question": Q, "answers": [A, "七个"]},
        {"question": Q, "answers": {"text": [A], "answer_start": [3]}},
        {"problem": Q, "solution": A},
        {"inputs": Q, "targets": A},
        {"question": Q, "reasoning": None, "answer": A},
    ],
)
def test_questions_and_answers_without_a_chain(tmp_path, row):
    (record,) = read_evaluation_records(write_jsonl(tmp_path / "test.jsonl", [row]))
    assert (record["context"], record["answer"], record["steps"]) == (Q, A, [])
    assert (record["source"], record["domain"], record["language"]) == ("test.jsonl#1", "math", "zh")


def test_chains_and_references_are_kept(tmp_path):
    rows = [
        {"question": Q, "answer": "3+4=<<3+4=7>>7\nSo 7\n#### 7"},
        {"context": Q, "task": "求和", "steps": ["3+4=7"], "answer": A},
        {"question": Q, "model_reasoning": "3+4=7", "model_answer": "是8个。", "reference_answer": "7"},
    ]
    found = read_evaluation_records([write_jsonl(tmp_path / "a.jsonl", rows)], domain="science")
    assert [(r["task"], r["steps"], r["answer"]) for r in found] == [
        ("", ["3+4=7", "So 7"], "7"),
        ("求和", ["3+4=7"], A),
        ("", ["3+4=7"], "7"),
    ]
    assert {record["domain"] for record in found} == {"science"}


def test_options_belong_to_the_problem(tmp_path):
    rows = [
        {"question": "3+4=?", "A": "6", "B": "7", "C": "8", "D": "9", "answer": "B"},
        {"question": "3+4=?", "choices": ["6", "7"], "answer": 1},
    ]
    first, second = read_evaluation_records(write_jsonl(tmp_path / "a.jsonl", rows))
    assert (first["context"], first["answer"]) == ("3+4=?\nA. 6\nB. 7\nC. 8\nD. 9", "B")
    assert (second["context"], second["answer"]) == ("3+4=?\nA. 6\nB. 7", "B")


def test_one_object_with_the_rows_in_it(tmp_path):
    path = tmp_path / "test.json"
    path.write_text(json.dumps({"version": "1", "data": [{"question": Q, "answer": A}] * 2}), encoding="utf-8")
    assert [record["source"] for record in read_evaluation_records(path)] == ["test.json#1", "test.json#2"]


def test_rows_that_cannot_be_used_are_named(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": Q, "answer": A}, {"question": Q}, {"x": 1}])
    with pytest.raises(DataError, match="a.jsonl#2: .*unknown layout"):
        read_evaluation_records(path)
    broken: list[BrokenRow] = []
    assert len(read_evaluation_records(path, skip_broken=True, on_broken=broken.append)) == 1
    assert [row.source for row in broken] == ["a.jsonl#2", "a.jsonl#3"]
    empty = write_jsonl(tmp_path / "b.jsonl", [{"question": Q, "answer": ""}])
    with pytest.raises(DataError, match="b.jsonl#1: it has no answer"):
        read_evaluation_records(empty)
    with pytest.raises(DataError, match="no row to evaluate on"):
        read_evaluation_records(empty, skip_broken=True)
    for name in ("domain", "schema", "history"):
        with pytest.raises(DataError, match=f"Unknown {name}.* 'maths'"):
            read_evaluation_records(path, **{name: "maths"})


def test_problems_need_no_answer(tmp_path):
    path = write_jsonl(
        tmp_path / "a.jsonl",
        [
            {"question": Q},
            {"instruction": "请回答", "input": Q, "output": A},
            {"context": Q, "task": "求和", "steps": [], "answer": ""},
            {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": Q}]},
        ],
    )
    assert list(read_problems(path)) == [
        ("a.jsonl#1", Q),
        ("a.jsonl#2", f"请回答\n\n{Q}"),
        ("a.jsonl#3", f"{Q}\n求和"),
        ("a.jsonl#4", Q),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "golden",
        "gt",
        "ans",
        "result",
        "expected",
        "correct",
        "Correct Answer",
        "Expected Output",
        "std_answer",
        "结论",
        "結果",
    ],
)
def test_names_of_the_correct_answer(tmp_path, name):
    (record,) = read_evaluation_records(write_jsonl(tmp_path / "a.jsonl", [{"question": Q, name: A}]))
    assert (record["context"], record["answer"]) == (Q, A)


def test_a_file_with_tabs(tmp_path):
    (tmp_path / "a.tsv").write_text(f"题目\t答案\n{Q}\t{A}\n", encoding="utf-8")
    (record,) = read_evaluation_records(tmp_path / "a.tsv")
    assert (record["context"], record["answer"]) == (Q, A)
