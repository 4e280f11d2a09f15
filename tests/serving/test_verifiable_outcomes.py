"""Outcomes of experiments from references that requests carry, from corrected answers, and from votes."""

import json
import logging

import pytest
from scripted_engine import ScriptedEngine
from starlette.testclient import TestClient

from hf_reason.serving.app import create_app
from hf_reason.serving.experiments import Experiments
from hf_reason.serving.feedback import FeedbackStore
from hf_reason.serving.logs import JsonFormatter
from hf_reason.serving.metrics import Metrics
from hf_reason.serving.preferences import Preferences

QUESTION = "小明有12个苹果,又买来25个。现在有多少个?"
SECRET = "37个"
SCRIPTS = {
    "a": (["12+25=36"], "36个"),
    "b": (["12+25=37"], "有37个苹果"),
    "words": (["想一想"], "大概不少吧,说不清楚"),
}


@pytest.fixture
def server(tmp_path):
    engine, experiments = ScriptedEngine(SCRIPTS), Experiments(tmp_path / "experiments.db")
    metrics, feedback = Metrics(process=False), FeedbackStore(tmp_path / "feedback.db")
    with TestClient(create_app(engine, metrics=metrics, feedback=feedback, experiments=experiments)) as client:
        yield client, engine, experiments, tmp_path


def ask(client, model="a", reference=SECRET, **body):
    metadata = {"metadata": {"reference_answer": reference}} if reference is not None else {}
    question = {"messages": [{"role": "user", "content": QUESTION}], "model": model, **metadata, **body}
    return client.post("/v1/chat/completions", json=question)


def outcomes(experiments, name="round2"):
    return [(arm, outcome, source) for _, arm, outcome, source in experiments.outcomes(name)]


@pytest.mark.parametrize("stream", [False, True])
def test_a_reference_makes_an_outcome_of_the_variant(server, stream):
    client, _, experiments, _ = server
    experiments.start("round2", model="a", version_a="a", version_b="b")
    users = [f"u{number}" for number in range(8)]
    arms = [experiments.get("round2").arm(user) for user in users]
    for user in users:
        assert ask(client, user=user, stream=stream).status_code == 200
    assert outcomes(experiments) == [(arm, int(arm == "B"), "answer") for arm in arms] and {*arms} == {"A", "B"}
    result = experiments.result("round2")
    assert (result.a.successes, result.b.successes) == (0, arms.count("B"))
    text = client.get("/metrics").text
    assert f'verified_answers_total{{arm="round2/B",model="b",result="right"}} {arms.count("B")}.0' in text
    assert f'outcomes_total{{arm="A",experiment="round2",outcome="0"}} {arms.count("A")}.0' in text


def test_what_cannot_be_decided_is_no_outcome_and_a_later_one_counts(server):
    client, _, experiments, _ = server
    experiments.start("round2", model="words", version_a="words", version_b="b", fraction=1e-9)
    name = ask(client, "words", reference="这也是一句说不清的话", user="u1").json()["id"]
    assert outcomes(experiments) == []
    assert 'result="undecided"} 1.0' in client.get("/metrics").text
    assert client.post("/v1/feedback", json={"id": name, "thumbs": "up"}).status_code == 201
    assert outcomes(experiments) == [("A", 1, "feedback")]


def test_whoever_judges_an_answer_the_outcome_is_of_the_user_who_asked(server):
    client, _, experiments, _ = server
    experiments.start("round2", model="a", version_a="a", version_b="b")
    arms = {user: experiments.get("round2").arm(user) for user in map(str, range(20))}
    name = ask(client, reference=None, user="0").json()["id"]
    reviewer = next(user for user, arm in arms.items() if arm != arms["0"])
    for user in (reviewer, "0"):  # the second one counts as the same user's
        assert client.post("/v1/feedback", json={"id": name, "thumbs": "up", "user": user}).status_code == 201
    assert outcomes(experiments) == [(arms["0"], 1, "feedback")]


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"corrected_answer": "36"}, 1),  # the same as what was served
        ({"corrected_answer": "37个"}, 0),
        ({"corrected_answer": "37个", "thumbs": "up"}, 0),
        ({"corrected_answer": "36个", "thumbs": "down"}, 0),
        ({"corrected_answer": "这也是一句说不清的话"}, None),
        ({"corrected_answer": "这也是一句说不清的话", "thumbs": "up"}, None),
        ({"corrected_answer": "这也是一句说不清的话", "thumbs": "down"}, 0),
        ({"corrected_answer": "36", "corrected_steps": ["12+24=36"]}, 0),
        ({"comment": "?"}, None),
    ],
    ids=str,
)
def test_a_corrected_answer_is_judged(server, said, outcome):
    client, _, experiments, _ = server
    experiments.start("round2", model="a", version_a="a", version_b="b", fraction=1e-9)
    name = ask(client, reference=None, user="u1").json()["id"]
    assert client.post("/v1/feedback", json={"id": name, **said}).status_code == 201
    assert outcomes(experiments) == ([] if outcome is None else [("A", outcome, "feedback")])


def test_the_reference_reaches_no_model_no_log_and_no_file(server):
    client, engine, experiments, folder = server
    experiments.start("round2", model="a", version_a="a", version_b="b")
    secret = "7654321.25"
    lines: list[str] = []
    handler = logging.Handler()
    formatter = JsonFormatter(texts=True)
    handler.emit = lambda record: lines.append(formatter.format(record))
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        said = [
            ask(client, reference=secret, user="u1", n=2, temperature=1, vote=True).text,
            ask(client, reference=secret, user="u2", stream=True).text,
            ask(client, reference=secret, temperature=9).text,  # refused
            ask(client, reference=secret + "0" * 600).text,  # refused: too long
        ]
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert len(outcomes(experiments)) == 2 and any("/v1/chat/completions" in line for line in lines)
    assert secret not in str(engine.jobs) + "".join(said) + "".join(lines) + client.get("/metrics").text
    for file in folder.iterdir():
        assert secret.encode() not in file.read_bytes(), file


def test_an_answer_that_cannot_be_judged_is_given_all_the_same(server, monkeypatch, caplog):
    def fail(*_):
        raise OSError("disk full, 37个")

    monkeypatch.setattr("hf_reason.serving.judging.outcome_of_answer", fail)
    assert ask(server[0]).json()["choices"][0]["message"]["content"] == "36个"
    assert ask(server[0], stream=True).text.endswith("data: [DONE]\n\n")
    assert "not judged: OSError" in caplog.text and SECRET not in caplog.text


def test_the_vote_is_what_is_judged(tmp_path):
    answers = iter([(["x"], "36"), (["x"], "37"), (["x"], "37")])
    experiments = Experiments(tmp_path / "experiments.db")
    experiments.start("e", model="a", version_a="a", version_b="b", fraction=1e-9)
    engine = ScriptedEngine({"a": lambda question: next(answers), "b": SCRIPTS["b"]})
    with TestClient(create_app(engine, metrics=Metrics(process=False), experiments=experiments)) as client:
        done = ask(client, n=3, temperature=1, vote=True, user="u").json()
    assert done["choices"][0]["message"]["content"] == "37" and outcomes(experiments, "e") == [("A", 1, "answer")]


@pytest.mark.parametrize(
    ("metadata", "status"),
    [
        ({"reference_answer": "37", "run": "x"}, 200),  # other labels are the client's
        ({}, 200),
        ({"reference_answer": None}, 200),
        ({"reference_answer": 37}, 400),
        ({"reference_answer": "3" * 513}, 400),
        ({"run": 1}, 400),
        ({f"k{n}": "" for n in range(17)}, 400),
        ("37", 400),
    ],
    ids=lambda value: str(value)[:40],
)
def test_labels_of_a_request(server, metadata, status):
    assert ask(server[0], reference=None, metadata=metadata).status_code == status


def test_a_model_can_be_asked_past_an_experiment_and_two_answers_compared(server):
    client, _, experiments, folder = server
    experiments.start("round2", model="a", version_a="a", version_b="b", fraction=1 - 1e-9)
    assert ask(client, reference=None, user="u1").json()["model"] == "b"
    pair = [ask(client, name, None, user="u1", experiment=False).json() for name in "ab"]
    assert [done["model"] for done in pair] == ["a", "b"]
    vote = {"id": pair[1]["id"], "preferred_to": pair[0]["id"], "user": "u1"}
    assert client.post("/v1/feedback", json=vote).json()["preference"] == 1
    assert outcomes(experiments) == [("B", 1, "preference")]
    assert client.post("/v1/feedback", json=vote).status_code == 201  # stored again; the first counts
    assert outcomes(experiments) == [("B", 1, "preference")]
    other = {"id": pair[0]["id"], "preferred_to": pair[1]["id"], "user": "u2", "thumbs": "up"}
    assert client.post("/v1/feedback", json=other).json()["number"] == 1
    assert outcomes(experiments)[1] == ("B", 0, "preference")
    votes = Preferences(folder / "feedback.db")
    assert [(vote.chosen.model, vote.rejected.model, vote.user) for vote in votes] == [
        *(("b", "a", "u1"), ("b", "a", "u1")),
        ("a", "b", "u2"),
    ]
    assert votes.export(folder / "pairs.jsonl") == len(votes) == 3
    row = json.loads((folder / "pairs.jsonl").read_text().splitlines()[0])
    assert row["prompt"] == f"问题:{QUESTION}\n回答:" and "12+25=36" in row["rejected"]
    assert row["chosen"] == "<think>\n步骤1:12+25=37\n</think>\n\n有37个苹果"
    assert len(FeedbackStore(folder / "feedback.db")) == 1


def test_votes_that_cannot_be(server):
    client = server[0]
    one = ask(client, reference=None).json()["id"]
    question = [{"role": "user", "content": "1+1=?"}]
    other = client.post("/v1/chat/completions", json={"messages": question, "model": "b"}).json()["id"]
    for body, status, word in (
        ({"id": one, "preferred_to": one}, 400, "to itself"),
        ({"id": one, "preferred_to": other}, 400, "different questions"),
        ({"id": one, "preferred_to": "chatcmpl-x"}, 404, "is known here"),
        ({"id": "chatcmpl-x", "preferred_to": one}, 404, "is known here"),
        ({"id": one, "preferred_to_choice": 1}, 400, "needs preferred_to"),
    ):
        answer = client.post("/v1/feedback", json=body)
        assert answer.status_code == status and word in answer.json()["error"]["message"]
