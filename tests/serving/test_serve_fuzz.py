"""Requests that are wrong in every way: each gets an answer of the API, and none an error of the server."""

import copy
import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tiny import tiny_qwen2

from hf_reason.serving.app import create_app
from hf_reason.serving.engines.base import ModelCard
from hf_reason.serving.engines.generate import GenerateEngine
from hf_reason.serving.engines.served_model import ServedModel
from hf_reason.serving.experiments import Experiments
from hf_reason.serving.feedback import FeedbackStore
from hf_reason.serving.metrics import Metrics
from hf_reason.serving.schema import ChatRequest
from hf_reason.serving.settings import ServeSettings

EXAMPLES = int(os.environ.get("HF_REASON_FUZZ", "10000"))
_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_texts = st.text(max_size=30) | st.sampled_from(["<think>", "</think>", "<|im_end|>", "\x00", "步骤1:", "苹果"])
_messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": _texts}), max_size=3
)
_small = st.integers(-2, 40)
_plausible = {
    "messages": _messages,
    "model": st.sampled_from(["tiny", None, "x"]),
    "max_tokens": _small,
    "temperature": st.floats(0, 2.1),
    "top_p": st.floats(0, 1),
    "top_k": _small,
    "n": st.integers(0, 3),
    "seed": st.integers(-(2**64), 2**64),
    "stop": st.lists(_texts, max_size=3),
    "stream": st.booleans(),
    "logprobs": st.booleans(),
    "thinking_budget": _small,
    "reasoning_effort": st.sampled_from(["none", "low", "high", "huge"]),
    "chat_template_kwargs": st.dictionaries(st.sampled_from(["enable_thinking", "thinking_budget", "x"]), _small),
}
_fields = {name: _plausible.get(name, _anything) | _anything for name in ChatRequest.model_fields}
_bodies = st.one_of(
    st.fixed_dictionaries({"messages": _messages}, optional={k: v for k, v in _plausible.items() if k != "messages"}),
    st.fixed_dictionaries({}, optional=_fields),
    st.dictionaries(st.sampled_from(sorted(_fields)) | st.text(max_size=10), _anything, max_size=5),
    _anything,
).map(lambda body: json.dumps(body).encode()) | st.binary(max_size=200)


@pytest.fixture(scope="module")
def http(_session_tokenizer, tmp_path_factory):
    tokenizer, folder = copy.deepcopy(_session_tokenizer), tmp_path_factory.mktemp("fuzz")
    served = ServedModel(ModelCard("tiny", 1), tiny_qwen2(tokenizer).eval(), tokenizer)
    other = ServedModel(ModelCard("other", 1), tiny_qwen2(tokenizer, seed=1).eval(), tokenizer)
    app = create_app(
        GenerateEngine([served, other]),
        ServeSettings(max_thought_tokens=12, max_answer_tokens=4),
        metrics=Metrics(process=False),
        feedback=FeedbackStore(folder / "feedback.db"),
        experiments=Experiments(folder / "experiments.db"),
    )
    with TestClient(app, raise_server_exceptions=True) as client:
        client.folder = folder
        yield client


def check(answer):
    assert answer.status_code in (200, 201, 400, 404, 405), (answer.status_code, answer.text)
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert error["message"] and error["code"] and error["type"], answer.text
    elif answer.headers["content-type"].startswith("text/event-stream"):
        assert answer.text.endswith("data: [DONE]\n\n") and '"error"' not in answer.text
    else:
        assert all(choice["message"]["content"].strip() for choice in answer.json().get("choices", []))


def _fuzz(http, count):
    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(path=st.sampled_from(["/v1/chat/completions"] * 6 + ["/v1/feedback"]), body=_bodies)
    def run(path, body):
        check(http.post(path, content=body, headers={"Content-Type": "application/json"}))

    run()


def test_malformed_requests(http):
    _fuzz(http, 40)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_malformed_requests(http):
    _fuzz(http, EXAMPLES)


def test_an_experiment_divides_users_and_learns_from_feedback(http):
    experiments = Experiments(http.folder / "experiments.db")
    experiments.start("round2", model="tiny", version_a="tiny", version_b="other", fraction=0.5)
    question = [{"role": "user", "content": "1+1=?"}]
    seen = {}
    for number in range(12):
        user = f"u{number % 6}"
        done = http.post("/v1/chat/completions", json={"messages": question, "user": user}).json()
        assert seen.setdefault(user, done["model"]) == done["model"]
        liked = "up" if done["model"] == "other" else "down"
        assert http.post("/v1/feedback", json={"id": done["id"], "thumbs": liked}).status_code == 201
    assert set(seen.values()) == {"tiny", "other"}
    result = experiments.result("round2")
    users = {name: sum(model == name for model in seen.values()) for name in ("tiny", "other")}
    assert (result.a.outcomes, result.a.successes) == (users["tiny"], 0)
    assert (result.b.outcomes, result.b.successes) == (users["other"], users["other"])
    experiments.promote("round2", force=True)
    done = http.post("/v1/chat/completions", json={"messages": question, "user": "u0"}).json()
    assert done["model"] == "other"
    assert 'hf_reason_outcomes_total{arm="B",experiment="round2",outcome="1"}' in http.get("/metrics").text
