"""`check_steps`: what the checker says of each step, streamed and not; and of the steps of a correction."""

import json

import pytest
from scripted_engine import ScriptedEngine
from starlette.testclient import TestClient

from hf_reason.serving.app import create_app
from hf_reason.serving.checks import StepChecks, check_steps
from hf_reason.serving.feedback import FeedbackStore
from hf_reason.serving.metrics import Metrics
from hf_reason.serving.settings import ServeSettings
from hf_reason.text.render import parse

QUESTION = "小明有12个苹果,又买来25个,卖出8个。现在有多少个?"
STEPS = ["又买来后有12+25=37个", "卖出后有37-8=30个", "最后97+88=185"]
ANSWER = "还剩30个,因为37-8=30"


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    store = FeedbackStore(tmp_path_factory.mktemp("checks") / "feedback.db")
    engine = ScriptedEngine({"m": (STEPS, ANSWER)})
    with TestClient(
        create_app(engine, ServeSettings(chunk_interval=0), metrics=Metrics(process=False), feedback=store)
    ) as client:
        yield client


def ask(http, **body):
    return http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": QUESTION}], **body})


def marks(item):
    return [(one["text"], one["holds"], one["value"]) for one in item["equations"]]


def deltas(answer):
    events = answer.text.split("\n\n")[:-2]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    return [choice["delta"] for chunk in chunks for choice in chunk["choices"]]


def test_each_equation_is_judged_in_its_place(http):
    message = ask(http, check_steps=True).json()["choices"][0]["message"]
    assert [check["text"] for check in message["checks"]] == message["steps"] == STEPS
    assert [check["verdict"] for check in message["checks"]] == ["holds", "false", "foreign"]
    assert marks(message["checks"][0]) == [("12+25=37", True, "37")]
    assert marks(message["checks"][1]) == [("37-8=30", False, "29")]
    found = message["checks"][1]["equations"][0]
    assert STEPS[1][found["start"] : found["end"]] == "37-8=30"
    assert message["answer_check"]["text"] == ANSWER and marks(message["answer_check"]) == [("37-8=30", False, "29")]


def test_a_stream_has_each_check_as_soon_as_its_step_has_ended(http):
    found = deltas(ask(http, check_steps=True, stream=True))
    thought, content, seen = "", "", []
    for delta in found:
        thought, content = thought + delta.get("reasoning", ""), content + (delta.get("content") or "")
        if "checks" in delta:
            assert not content, "the checks come before the answer"
            assert parse(f"<think>\n{thought[: delta['checked']]}").steps == STEPS[: len(seen) + len(delta["checks"])]
            seen += [(check["index"], len(thought)) for check in delta["checks"]]
    assert [index for index, _ in seen] == [0, 1, 2]
    # the first check has come before the third step was begun
    assert seen[0][1] < len(thought) - len(STEPS[2])
    assert found[-2]["answer_check"]["text"] == content == ANSWER
    whole = ask(http, check_steps=True).json()["choices"][0]["message"]["checks"]
    assert [check for delta in found for check in delta.get("checks", ())] == whole


def test_nobody_else_gets_them(http):
    assert not any({"checks", "answer_check"} & set(delta) for delta in deltas(ask(http, stream=True)))
    assert set(ask(http).json()["choices"][0]["message"]) == {
        *("role", "content", "reasoning_content", "reasoning", "steps")
    }


def test_without_a_thought_only_the_answer_is_checked(http):
    message = ask(http, check_steps=True, thinking_budget=0).json()["choices"][0]["message"]
    assert message["checks"] == [] and marks(message["answer_check"]) == [("37-8=30", False, "29")]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "thought", ["步骤1:a\nb\n步骤2:1+1=3\n步骤3:c", "前言\n步骤1:x\n步骤2:y", "no label\n\n2+2=4", ""]
)
def test_steps_that_are_followed_are_those_that_are_parsed(thought, size):
    steps = parse(f"<think>\n{thought}\n</think>\n\n1").steps
    checks, shown = StepChecks(""), {}
    parts = [(thought[at : at + size], None) for at in range(0, len(thought), size)]
    for part, known in [*parts, ("", steps)]:
        news = checks.add(part, known)
        for check in news["checks"] if news else ():
            shown[check["index"]] = check
    assert [shown[index] for index in sorted(shown)] == check_steps(steps, "")


def test_a_correction_is_checked_and_the_answer_says_so(http):
    name = ask(http).json()["id"]
    body = {"id": name, "corrected_steps": ["12+25=37", "37-8=28"], "corrected_answer": "28个"}
    done = http.post("/v1/feedback", json=body).json()
    assert done["number"] and [check["verdict"] for check in done["checks"]] == ["holds", "false"]


def test_a_number_too_long_to_show_has_no_value():
    (check,) = check_steps(["9" * 31 + "×" + "9" * 31 + "=5"], "")
    assert marks(check) == [("9" * 31 + "×" + "9" * 31 + "=5", False, None)]
