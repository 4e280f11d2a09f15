"""Duplicates are found, problems with other numbers are kept, evaluation problems are recognised."""

import json
import random
from pathlib import Path

import pytest

from hf_reason.data.clean import dedup
from hf_reason.data.clean.dedup import Decontaminator, Deduplicator
from hf_reason.data.clean.text_keys import normalise, numbers_of
from hf_reason.data.record import DataError

CONTEXT = "学校图书馆上午借出故事书36本，下午借出的本数比上午的2倍少12本，这一天一共借出故事书多少本？"
STEPS = [
    "先求下午借出的本数，上午的2倍是36×2=72（本）。",
    "比它少12本，就是72-12=60（本）。",
    "一共借出36+60=96（本）。",
]


def random_text(rng: random.Random, length: int) -> str:
    # A stretch of the character table without numerals.
    return "".join(chr(0x5700 + rng.randrange(3000)) for _ in range(length))


def test_copies_that_differ_in_layout_are_exact() -> None:
    seen = Deduplicator()
    assert seen.add(CONTEXT, STEPS) is None
    assert seen.add(CONTEXT, STEPS) == "exact"
    assert seen.add(CONTEXT.replace("，", ", ").replace("36", "３６"), "\n\n".join(STEPS)) == "exact"


@pytest.mark.parametrize(("one", "other"), [("3.5", "35"), ("3+5", "3-5"), ("1/2", "12"), ("15%", "15")])
def test_what_makes_a_number_is_content(one: str, other: str) -> None:
    seen = Deduplicator()
    assert seen.add(f"求{one}", []) is None
    assert seen.add(f"求{other}", []) != "exact"
    assert normalise(one) != normalise(other)


def test_a_small_change_of_words_is_near() -> None:
    seen = Deduplicator()
    assert seen.add(CONTEXT, STEPS) is None
    assert seen.add(CONTEXT.replace("图书馆", "阅览室"), STEPS) == "near"
    assert seen.add(CONTEXT, [*STEPS[:2], STEPS[2] + "完毕"]) == "near"


def test_other_numbers_are_another_problem() -> None:
    seen = Deduplicator()
    # So long that a changed number leaves the words well above the threshold.
    background = random_text(random.Random(4), 200)
    assert seen.add(background + CONTEXT, "略") is None
    assert seen.add(background + CONTEXT.replace("36", "37"), "略") is None
    assert seen.add(background + CONTEXT.replace("36", "12").replace("少12", "少36"), "略") is None
    assert seen.add(background + CONTEXT.replace("2倍", "三倍"), "略") is None
    assert seen.add(background + CONTEXT.replace("图书馆", "阅览室"), "略") == "near"


def test_same_problem_with_another_chain_is_kept() -> None:
    seen = Deduplicator()
    assert seen.add(CONTEXT, STEPS) is None
    other = ["设上午借出x本，那么下午借出2x-12本。", "代入得到下午60本。", "两部分相加，合计九十六本，检验无误。"] * 2
    assert seen.add(CONTEXT, other) is None


@pytest.mark.parametrize("direct", [0, 10_000])
def test_planted_near_copies_among_many(direct: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of looking, through the index and one by one, find the planted copies and nothing else."""
    monkeypatch.setattr(dedup, "_DIRECT", direct)
    rng = random.Random(1)
    texts = [random_text(rng, 200) for _ in range(300)]
    seen = Deduplicator()
    assert [seen.add(text, "") for text in texts] == [None] * 300
    # 4 changed characters in 200 spoil at most 20 of 196 five-grams: a similarity of about 0.82 to 0.9.
    near = ["".join((text[:50], "改", text[51:120], "动", text[121:])) for text in texts]
    assert [seen.add(text, "") for text in near].count("near") >= 290
    half = [text[:100] + random_text(rng, 100) for text in texts]
    assert [seen.add(text, "") for text in half] == [None] * 300


def test_the_threshold_is_a_similarity() -> None:
    rng = random.Random(2)
    text = random_text(rng, 400)
    changed = text[:300] + random_text(rng, 100)  # shares 296 of 496 five-grams: 0.6
    strict, loose = Deduplicator(0.8), Deduplicator(0.45)
    assert [strict.add(each, "") for each in (text, changed)] == [None, None]
    assert [loose.add(each, "") for each in (text, changed)] == [None, "near"]


def test_adding_the_kept_again_rebuilds_the_state() -> None:
    rng = random.Random(3)
    base = [random_text(rng, 120) for _ in range(100)]
    stream = [rng.choice(base)[: rng.choice((120, 118, 80))] for _ in range(400)]
    whole = Deduplicator()
    verdicts = [whole.add(text, "") for text in stream]
    assert {"exact", "near", None} == set(verdicts)
    resumed = Deduplicator()
    for text, verdict in zip(stream[:200], verdicts[:200], strict=True):
        if verdict is None:
            assert resumed.add(text, "") is None
    assert [resumed.add(text, "") for text in stream[200:]] == verdicts[200:]


@pytest.mark.parametrize("changes", [{"threshold": 0}, {"threshold": 1.5}, {"ngram": 0}, {"num_perm": 100}])
def test_bad_parameters_are_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        Deduplicator(**changes)


def test_numbers_of_a_text() -> None:
    assert numbers_of("３个人，每人2.5元，一共三十元") == ("3", "2.5", "三十")
    assert numbers_of("一起出发") == ()


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
        ("none.jsonl", None, "no such evaluation file"),
        ("empty.jsonl", "", "no text"),
        ("broken.jsonl", '{"question": \n', "row 1: not JSON"),
        ("other.jsonl", '{"image": "x", "label": 3}\n', "row 1: none of the fields .* it has image, label"),
        ("lines.json", '{"question": "a"}\n{"question": "b"}\n', "name it .jsonl"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        Decontaminator([tmp_path / name])
    assert name in str(error.value)
