"""Feedback: what is stored stays, what is learned from it was praised or rightly corrected."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from hf_reason.data.read.feedback import is_feedback
from hf_reason.data.read.rows import SourceError
from hf_reason.data.read.sources import read_records
from hf_reason.serving.feedback import FeedbackError, FeedbackStore, Served, UnknownRequestError
from hf_reason.serving.outcomes import outcome_of_answer, outcome_of_feedback

SERVED = Served(
    request_id="r1",
    context="小明有3盒笔,每盒12支,送出6支,还剩多少支?",
    task="逐步推理",
    steps=("3×12=36支", "36-6=30支"),
    answer="30支",
    domain="math",
    model="base",
    model_version="v3",
    arm="B",
    user="asker",
    served_at=1000.0,
)
WRONG = Served(request_id="r2", context=SERVED.context, steps=("3×12=36支", "36-5=31支"), answer="31支", domain="math")


@pytest.fixture
def store(tmp_path):
    found = FeedbackStore(tmp_path / "feedback.db")
    yield found
    found.close()


def records(store: FeedbackStore) -> list[tuple[list[str], str]]:
    return [(record["steps"], record["answer"]) for record in read_records(store.path)]


def test_feedback_on_a_remembered_answer(store):
    store.remember(SERVED)
    assert store.served("r1") == SERVED and store.served("r1", 1) is None
    given = store.add("r1", thumbs="up", comment=" 好 \n", user="reader")
    assert given.comment == "好" and given.served.user == "reader" and given.served.model_version == "v3"
    store.close()
    again = FeedbackStore(store.path)  # another process, after a restart
    assert list(again) == [given] and len(again) == 1
    (record,) = read_records(store.path)
    assert record["context"] == SERVED.context and record["task"] == "逐步推理" and record["domain"] == "math"
    assert record["steps"] == list(SERVED.steps) and record["answer"] == "30支"
    assert record["source"] == "feedback.db#1" and record["language"] == "zh"


def test_what_is_a_record(store):
    praised = (list(SERVED.steps), "30支")
    right = ["3×12=36支", "36-6=30支"]
    cases = [
        # (answer, feedback in order, record, reason)
        (SERVED, [{"thumbs": "up"}], praised, "praised"),
        (SERVED, [{"thumbs": "down"}], None, "disliked"),
        (SERVED, [{"comment": "nice"}], None, "no_vote"),
        (WRONG, [{"corrected_answer": "30支", "corrected_steps": right}], (right, "30支"), "corrected"),
        (
            WRONG,
            [{"thumbs": "down", "corrected_steps": right, "corrected_answer": "30支"}],
            (right, "30支"),
            "corrected",
        ),
        # the served answer still says 31
        (WRONG, [{"corrected_steps": right}], None, "contradiction"),
        (WRONG, [{"corrected_answer": "30支", "corrected_steps": ["3×12=36支", "36-6=31支"]}], None, "false_equation"),
        (WRONG, [{"corrected_answer": "29支", "corrected_steps": right}], None, "contradiction"),
        # the served chain leads to 31, so it is no reason for 30
        (WRONG, [{"corrected_answer": "30支"}], None, "answer_without_steps"),
        # the chain was right, and the answer alone was wrong
        (
            Served("x", SERVED.context, "60支", SERVED.steps),
            [{"corrected_answer": "30支"}],
            (list(SERVED.steps), "30支"),
            "corrected",
        ),
        # a chain with a false equation is none to keep, even if its end is right
        (Served("x", "?", "31", ("3×12=35", "35-5=30")), [{"corrected_answer": "30"}], None, "answer_without_steps"),
        (Served("x", "?", "42"), [{"thumbs": "up"}], None, "no_chain"),
        (Served("x", "?", "", ("a step",)), [{"thumbs": "up"}], None, "no_chain"),
        # each user's last vote counts; one against is enough
        (SERVED, [{"thumbs": "down", "user": "u"}, {"thumbs": "up", "user": "u"}], praised, "praised"),
        (SERVED, [{"thumbs": "up", "user": "u"}, {"thumbs": "down", "user": "u"}], None, "disliked"),
        (SERVED, [{"thumbs": "down", "user": "u"}, {"thumbs": "up", "user": "w"}], None, "disliked"),
        (SERVED, [{"thumbs": "down", "user": ""}, {"thumbs": "up", "user": ""}], None, "disliked"),
        # a correction counts before votes, and the last one before others
        (
            WRONG,
            [{"corrected_answer": "30支", "corrected_steps": right}, {"thumbs": "up", "user": "w"}],
            (right, "30支"),
            "corrected",
        ),
        (
            WRONG,
            [
                {"corrected_answer": "9", "corrected_steps": ["3×3=9"]},
                {"corrected_answer": "30支", "corrected_steps": right},
            ],
            (right, "30支"),
            "corrected",
        ),
        (SERVED, [{"thumbs": "up"}, {"corrected_steps": ["3×12=35"]}], None, "false_equation"),
        # words that no rule can judge are the user's
        (
            Served("x", "谁?", "甲", ("甲说真话",)),
            [{"corrected_steps": ["乙说真话"], "corrected_answer": "乙"}],
            (["乙说真话"], "乙"),
            "corrected",
        ),
    ]
    wanted, reasons = {}, {}
    for number, (served, given, record, reason) in enumerate(cases):
        name = f"{number:03}"
        store.remember(replace(served, request_id=name, context=f"{served.context} {name}"))
        for each in given:
            store.add(name, **each)
        wanted[name], reasons[reason] = record, reasons.get(reason, 0) + 1
    found = {record["context"][-3:]: (record["steps"], record["answer"]) for record in read_records(store.path)}
    assert found == {name: record for name, record in wanted.items() if record is not None}
    assert store.counts() == reasons


def test_choices_of_a_request_are_apart(store):
    for choice in range(3):
        store.remember(replace(SERVED, choice=choice, answer=f"{choice}支"))
    store.add("r1", choice=0, thumbs="down")
    store.add("r1", choice=2, thumbs="up")
    assert [answer for _, answer in records(store)] == ["2支"]


def test_the_same_praise_twice_is_one_record(store):
    store.remember(SERVED)
    for user in ("a", "b", "a"):
        store.add("r1", thumbs="up", user=user)
    assert len(records(store)) == 1 and len(store) == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "There is no feedback"),
        ({"comment": " \n", "corrected_steps": ["", " "]}, "There is no feedback"),
        ({"thumbs": "sideways"}, "thumbs is 'up' or 'down', not 'sideways'"),
        ({"thumbs": 1}, "thumbs is 'up' or 'down', not 1"),
        ({"thumbs": ["up"]}, "thumbs is 'up' or 'down'"),
        ({"comment": 7}, "comment must be text, not int"),
        ({"comment": "x" * 100_001}, "comment has 100,001 characters; at most 100,000"),
        ({"comment": "half \ud800"}, "comment is not valid Unicode: half of a surrogate pair at 5"),
        ({"corrected_steps": "one"}, "corrected_steps must be a list"),
        ({"corrected_steps": ["a", 3]}, "corrected_steps, step 2 must be text, not int"),
        ({"corrected_steps": ["a"] * 1001}, "at most 1,000 texts"),
        ({"thumbs": "up", "user": 3}, "user must be text"),
    ],
)
def test_what_cannot_be_stored(store, given, message):
    store.remember(SERVED)
    with pytest.raises(FeedbackError, match=message):
        store.add("r1", **given)
    assert len(store) == 0


@pytest.mark.parametrize("name", ["r9", "", "\ud800", "x" * 99])
def test_an_answer_that_was_never_served(store, name):
    with pytest.raises(FeedbackError):
        store.add(name, thumbs="up")
    with pytest.raises(UnknownRequestError, match="request 'r1' .choice 7. is known"):
        store.add("r1", choice=7, thumbs="up")
    with pytest.raises(UnknownRequestError):
        store.add("r1", choice=2**80, thumbs="up")


def test_only_the_last_answers_are_remembered_and_feedback_needs_none(tmp_path):
    store = FeedbackStore(tmp_path / "feedback.db", max_served=3)
    for number in range(10):
        store.remember(replace(SERVED, request_id=f"r{number}"))
        if number == 0:
            store.add("r0", thumbs="up")
    assert [store.served(f"r{number}") is not None for number in range(10)] == [False] * 7 + [True] * 3
    assert len(records(store)) == 1
    store.remember(replace(SERVED, request_id="r9", answer="new"))
    assert store.served("r9").answer == "new"


def test_iterating_while_more_comes(store):
    for number in range(3):
        store.add(Served(f"r{number}", "c", "a"), comment=str(number))
    iterator = iter(store)
    first = next(iterator)
    store.add(Served("new", "c", "a"), comment="new")
    assert [first.comment, *(each.comment for each in iterator)][:3] == ["0", "1", "2"]
    assert [each.comment for each in store.since(3)] == ["new"]


def test_export_is_what_is_read(store, tmp_path):
    store.remember(SERVED)
    store.add("r1", thumbs="up")
    assert store.export(tmp_path / "records.jsonl") == 1
    (read,) = read_records(tmp_path / "records.jsonl")
    (direct,) = read_records(store.path)
    assert {**read, "source": ""} == {**direct, "source": ""}


def test_told_by_content(store, tmp_path, caplog):
    store.remember(SERVED)
    store.add("r1", thumbs="up")
    store.add(WRONG, thumbs="down")
    renamed = tmp_path / "elsewhere" / "ratings.data"
    renamed.parent.mkdir()
    with sqlite3.connect(store.path) as source, sqlite3.connect(renamed) as target:
        source.backup(target)
    source.close()
    target.close()
    assert len(list(read_records(renamed))) == 1
    assert "ratings.data: 1 answers with feedback are records; left out: 1 disliked." in caplog.text
    # in a folder by its ending; a database of something else beside it is not touched
    (tmp_path / "folder").mkdir()
    os.rename(renamed, tmp_path / "folder" / "feedback.sqlite3")
    other = tmp_path / "folder" / "Thumbs.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE pictures (name)")
    connection.close()
    (tmp_path / "folder" / "notes.db").write_text("no database")
    assert len(list(read_records(tmp_path / "folder"))) == 1 and not is_feedback(other)
    with pytest.raises(SourceError, match=r"Thumbs.db: a SQLite database of something else \(it holds pictures\)"):
        list(read_records(other))
    with pytest.raises(FeedbackError, match="Thumbs.db cannot hold feedback: it is a database of something else"):
        FeedbackStore(other)
    with pytest.raises(SourceError, match="notes.db: not a format that can be read"):
        list(read_records(tmp_path / "folder" / "notes.db"))
    with pytest.raises(SourceError, match="No such file or folder: nowhere/feedback.db"):
        read_records("nowhere/feedback.db")


def test_a_file_that_cannot_be_written_is_read(store, monkeypatch):
    store.remember(SERVED)
    store.add("r1", thumbs="up")
    store.close()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # permissions do not stop root
    assert len(records(store)) == 1
    assert [path.name for path in store.path.parent.iterdir()] == ["feedback.db"]  # nothing was made beside it


def test_a_damaged_file_says_so(store):
    for number in range(60):
        store.add(Served(f"r{number}", "c" * 900, "a", ("s" * 200,)), thumbs="up")
    store.close()
    with store.path.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(store.path.stat().st_size - 8192))
    with pytest.raises(SourceError, match="feedback.db: the database is damaged"):
        list(read_records(store.path))
    store.path.write_bytes(os.urandom(5000))
    with pytest.raises(FeedbackError, match="cannot hold feedback"):
        FeedbackStore(store.path)


def test_continual_sees_feedback_that_is_not_yet_in_the_main_file(store):
    """The cache of prepared data is by content, and SQLite writes beside the file first."""
    from hf_reason.cli.inputs.raw_data import cache_folder, is_raw
    from hf_reason.data import PrepareConfig

    store.remember(SERVED)
    store.add("r1", thumbs="up")
    main, before = store.path.read_bytes(), cache_folder([str(store.path)], PrepareConfig())
    store.add(WRONG, thumbs="up")
    assert store.path.read_bytes() == main  # else this test shows nothing
    assert cache_folder([str(store.path)], PrepareConfig()) != before
    assert is_raw(str(store.path))


@pytest.mark.slow
def test_feedback_is_prepared_as_records(tmp_path):
    from hf_reason.data import PrepareConfig, load_cot_sft_dataset, prepare
    from hf_reason.data.synthetic.word_problems import generate_word_problems

    store = FeedbackStore(tmp_path / "feedback.db")
    for number, row in enumerate(generate_word_problems(30)):
        served = Served(f"r{number}", row["context"], row["answer"], tuple(row["steps"]), domain="math")
        store.add(served, thumbs="down" if number % 3 == 0 else "up")
    report = prepare([store.path], tmp_path / "data", PrepareConfig(), progress=False)
    assert report["counts"]["in"] == 20
    rows = load_cot_sft_dataset("math", "train", tmp_path / "data")
    assert len(rows) and set(rows["domain"]) == {"math"}


def test_outcomes(store):
    store.remember(SERVED)
    assert outcome_of_feedback(store.add("r1", thumbs="up")) == 1
    assert outcome_of_feedback(store.add("r1", thumbs="down")) == 0
    assert outcome_of_feedback(store.add("r1", comment="?")) is None
    assert outcome_of_feedback(store.add("r1", thumbs="up", corrected_answer="31")) == 0
    assert (outcome_of_answer("一共30支", "30"), outcome_of_answer("31", "30")) == (1, 0)
    assert outcome_of_answer("甲是对的,因为这样", "乙在这里说了很多别的话") is None


def test_threads_write_at_once(store):
    def work(name: str) -> None:
        for number in range(10):
            store.add(Served(f"{name}{number}", "c", "a"), comment=name)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store) == 40 and [each.id for each in store] == list(range(1, 41))


WRITER = """
import sys
from hf_reason.serving.feedback import FeedbackStore, Served
store = FeedbackStore(sys.argv[1])
number = 0
while True:
    store.remember(Served(f"{sys.argv[2]}-{number}", "c", "a", ("x" * 500,)))
    store.add(f"{sys.argv[2]}-{number}", comment=f"{sys.argv[2]}-{number}")
    sys.stdout.write(f"{sys.argv[2]}-{number}\\n")  # the acknowledgement
    sys.stdout.flush()
    number += 1
"""


@pytest.mark.slow
def test_killed_writers_lose_nothing_that_was_accepted(tmp_path):
    """Three writers at once are killed with -9 at random times, seven times over."""
    path = tmp_path / "feedback.db"
    accepted = set()
    times = random.Random(0)
    for round_number in range(7):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(path), f"{round_number}{name}"], stdout=subprocess.PIPE, text=True
            )
            for name in "abc"
        ]
        for writer in writers:
            accepted.add(writer.stdout.readline().strip())  # it writes now
        threading.Event().wait(times.uniform(0.05, 0.6))
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            rest = writer.communicate()[0]
            accepted |= set(rest.split("\n")[:-1])  # the last line may be half of one
    store = FeedbackStore(path)
    stored = {each.comment for each in store}
    assert len(accepted) > 100 and accepted <= stored
    # what was stored and not acknowledged is at most the one that each was killed in
    assert len(stored - accepted) <= 21
    assert store._database.read("PRAGMA integrity_check") == [("ok",)]


def test_nothing_but_the_record_is_in_an_exported_line(store, tmp_path):
    """No user and no comment reaches the training data."""
    store.add(SERVED, thumbs="up", comment="私人的话", user="person@example.org")
    store.export(tmp_path / "records.jsonl")
    text = Path(tmp_path / "records.jsonl").read_text(encoding="utf-8")
    assert "私人的话" not in text and "person" not in text and "asker" not in text
    assert set(json.loads(text)) == {"id", "context", "task", "steps", "answer", "domain", "language", "source"}
