"""Evaluation problems are recognised inside training texts, from evaluation files of every kind."""

import gzip
import json
import random
from pathlib import Path

import pytest

from hf_reason.data.clean.decontaminate import Decontaminator
from hf_reason.data.record import DataError

CONTEXT = "学校图书馆上午借出故事书36本，下午借出的本数比上午的2倍少12本，这一天一共借出故事书多少本？"


def random_text(rng: random.Random, length: int) -> str:
    # A stretch of the character table without numerals.
    return "".join(chr(0x5700 + rng.randrange(3000)) for _ in range(length))


def write_rows(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_an_evaluation_problem_is_found_with_its_file_and_row(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "test.jsonl", [{"question": "小明有3个苹果。"}, {"question": CONTEXT, "answer": "96"}]
    )
    found = Decontaminator([path])
    assert found.hits(CONTEXT) == "test.jsonl#2"
    assert found.hits("请解答下面这道题：\n" + CONTEXT + "\n请一步一步地想。") == "test.jsonl#2"
    assert found.hits(CONTEXT.replace("故事书多少本", "故事书几本")) == "test.jsonl#2"
    assert found.hits("这一天图书馆里来了很多人，大家都在认真看书，没有人说话。") is None


def test_other_numbers_and_common_phrases_are_no_contamination(tmp_path: Path) -> None:
    long = random_text(random.Random(5), 200) + CONTEXT
    found = Decontaminator([write_rows(tmp_path / "test.jsonl", [{"problem": long}, {"problem": CONTEXT}])])
    assert found.hits(long) == "test.jsonl#1"
    assert found.hits(long.replace("36", "48")) is None
    assert found.hits(long[:60] + "上午36本，下午2本，昨天12本") is None
    assert found.hits("这一天一共借出故事书多少本？上午36本，下午2本，昨天12本，请问小红怎样计算这些数量。") is None


def test_short_problems_count_only_as_a_whole(tmp_path: Path) -> None:
    found = Decontaminator([write_rows(tmp_path / "test.jsonl", [{"question": "3+5=?"}])])
    assert found.hits("3 + 5 = ？") == "test.jsonl#1"
    assert found.hits("小明知道3+5=8，他还想知道别的。") is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", f"第一行是别的内容，并不重要\n{CONTEXT}\n"),
        ("a.json", json.dumps([{"id": 1, "question": "别的问题，与此无关"}, {"id": 2, "question": CONTEXT}])),
        ("a.json", json.dumps({"version": 1, "data": ["别的问题，与此无关", CONTEXT]})),
        ("a.json", f'{{"question": "别的问题"}}\n{{"题目": "{CONTEXT}"}}\n'),
        ("a.jsonl", '"别的问题"\n' + json.dumps({"instruction": "请回答下面的问题", "input": CONTEXT})),
        ("a.csv", f'id,question\n1,"别的问题"\n2,"{CONTEXT}"\n'),
        ("a.jsonl", '"别的问题"\n' + json.dumps({"messages": [{"role": "user", "content": CONTEXT}]})),
        ("a.jsonl", '"别的问题"\n' + json.dumps({"conversations": [{"from": "human", "value": CONTEXT}]})),
    ],
)
def test_files_of_many_kinds(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert Decontaminator([tmp_path / name]).hits(CONTEXT) == f"{name}#2"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "No such file"),
        ("empty.jsonl", "", "no problem"),
        ("broken.jsonl", '{"question": \n', "line 1: not valid JSON"),
        ("other.jsonl", '{"image": "x", "label": 3}\n', "#1: no problem in it: none of .* It has image, label"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        Decontaminator([tmp_path / name])
    assert name in str(error.value)


def test_folders_and_compressed_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps({"question": CONTEXT}).encode()))
    assert Decontaminator([tmp_path / "folder"]).hits(CONTEXT) == "a.jsonl.gz#1"
