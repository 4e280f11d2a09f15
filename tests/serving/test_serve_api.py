"""The API over a tiny model, asked by the official client and by raw HTTP."""

import copy
import http.client
import json
import time

import pytest
from serving_server import serving
from tiny import tiny_qwen2, tiny_step_reasoner

from hf_reason.serving.app import create_app
from hf_reason.serving.cache import open_cache
from hf_reason.serving.engines.base import ModelCard
from hf_reason.serving.engines.generate import GenerateEngine
from hf_reason.serving.engines.served_model import ServedModel
from hf_reason.serving.feedback import FeedbackStore
from hf_reason.serving.metrics import Metrics
from hf_reason.serving.settings import ServeSettings

QUESTION = [{"role": "user", "content": "小明有12个苹果,又买来25个。现在有多少个?"}]


@pytest.fixture(scope="module")
def engine_and_url(_session_tokenizer, tmp_path_factory):
    tokenizer, folder = copy.deepcopy(_session_tokenizer), tmp_path_factory.mktemp("serving")
    served = [
        ServedModel(ModelCard("tiny", 1, revision="a"), tiny_qwen2(tokenizer).eval(), tokenizer),
        ServedModel(ModelCard("steps", 2, revision="b"), tiny_step_reasoner(tokenizer).eval(), tokenizer),
    ]
    engine = GenerateEngine(served, max_batch_size=4, admission_interval=4)
    app = create_app(
        engine,
        ServeSettings(max_thought_tokens=48, max_answer_tokens=24, max_body_bytes=20_000, max_queue_size=40),
        cache=open_cache(str(folder / "cache.db")),
        metrics=Metrics(process=False),
        feedback=FeedbackStore(folder / "feedback.db"),
    )
    with serving(app) as url:
        yield engine, url


@pytest.fixture(scope="module")
def url(engine_and_url):
    return engine_and_url[1]


@pytest.fixture(scope="module")
def client(url):
    from openai import OpenAI

    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def post(url: str, path: str, body: object, raw: bytes | None = None) -> tuple[int, dict, bytes]:
    host = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    data = json.dumps(body).encode() if raw is None else raw
    host.request("POST", path, data, {"Content-Type": "application/json"})
    answer = host.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def ask(url: str, **body: object) -> dict:
    status, _, data = post(url, "/v1/chat/completions", {"messages": QUESTION, **body})
    assert status == 200, data
    return json.loads(data)


@pytest.mark.parametrize("model", ["tiny", "steps"])
def test_an_answer_has_its_thought_apart_and_is_never_empty(client, model):
    done = client.chat.completions.create(model=model, messages=QUESTION)
    (choice,) = done.choices
    message = choice.message
    assert message.reasoning_content == message.reasoning and message.reasoning
    assert message.content.strip() and "</think>" not in message.content + message.reasoning
    assert message.steps and all(step in message.reasoning for step in message.steps)
    thought = done.usage.completion_tokens_details.reasoning_tokens
    assert 8 < thought <= 48 and done.usage.completion_tokens - thought <= 24
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    assert choice.finish_reason in ("stop", "length") and choice.thought_closed_by in ("budget", "stop", "model")


def test_a_stream_has_thought_then_steps_then_content_and_equals_the_whole(client):
    whole = client.chat.completions.create(model="tiny", messages=QUESTION, temperature=1.0, seed=3)
    for turn in range(2):  # the second from the cache
        stream = client.chat.completions.create(
            model="tiny",
            messages=QUESTION,
            temperature=1.0,
            seed=3,
            stream=True,
            stream_options={"include_usage": True},
        )
        order, text, steps, end, used = [], {"r": "", "c": ""}, None, None, None
        for chunk in stream:
            used = chunk.usage or used
            for choice in chunk.choices:
                delta, end = choice.delta, choice.finish_reason or end
                if getattr(delta, "reasoning", None):
                    assert delta.reasoning == delta.reasoning_content
                    order.append("r")
                    text["r"] += delta.reasoning
                if getattr(delta, "steps", None) is not None:
                    order.append("s")
                    steps = delta.steps
                if delta.content:
                    order.append("c")
                    text["c"] += delta.content
        message = whole.choices[0].message
        assert "".join(dict.fromkeys(order)) == "rsc" and sorted(order, key="rsc".index) == order, turn
        assert (text["r"], text["c"], steps) == (message.reasoning, message.content, message.steps)
        assert end == whole.choices[0].finish_reason and used == whole.usage


def test_the_framing_of_a_stream(url):
    body = {"messages": QUESTION, "stream": True, "n": 2, "seed": 1}
    status, headers, data = post(url, "/v1/chat/completions", body)
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    assert headers["x-request-id"].startswith("req-")
    events = data.decode().split("\n\n")
    assert events[-1] == "" and events[-2] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert all(len(event.splitlines()) == 1 for event in events[:-1])
    assert len({chunk["id"] for chunk in chunks}) == 1 and {c["object"] for c in chunks} == {"chat.completion.chunk"}
    for index in (0, 1):
        own = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert [choice["finish_reason"] for choice in own[:-1]] == [None] * (len(own) - 1) and own[-1]["finish_reason"]


BUDGETS = [
    {"max_thinking_tokens": 16},
    {"thinking_budget": 16},
    {"thinking_token_budget": 16},
    {"reasoning": {"max_tokens": 16}},
    {"reasoning": {"max_tokens": 16, "enabled": True}},
    {"thinking": {"type": "enabled", "budget_tokens": 16}},
    {"chat_template_kwargs": {"thinking_budget": 16}},
    {"chat_template_kwargs": {"thinking_budget": 16}, "max_thinking_tokens": 16, "reasoning_effort": "high"},
    {"reasoning_effort": "low", "limit": 12},
    {"reasoning": {"effort": "low"}, "limit": 12},
]
OFF = [
    {"enable_thinking": False},
    {"thinking": {"type": "disabled"}},
    {"chat_template_kwargs": {"enable_thinking": False}},
    {"chat_template_kwargs": {"thinking": False}},
    {"reasoning": {"effort": "none"}},
    {"reasoning": {"enabled": False}},
    {"reasoning_effort": "none"},
    {"thinking_budget": 0},
    {"max_tokens": 1},
]


@pytest.mark.parametrize("names", BUDGETS, ids=str)
def test_every_name_of_a_budget_holds(url, names):
    body = dict(names)
    limit = body.pop("limit", 16)
    done = ask(url, **body)
    thought = done["usage"]["completion_tokens_details"]["reasoning_tokens"]
    message = done["choices"][0]["message"]
    assert 4 < thought <= limit and message["reasoning"] and message["content"].strip()


@pytest.mark.parametrize("names", OFF, ids=str)
def test_every_name_turns_the_thought_off(url, names):
    done = ask(url, **names)
    message = done["choices"][0]["message"]
    assert done["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
    assert message["reasoning"] is None and message["steps"] == [] and message["content"].strip()


def test_a_limit_on_all_tokens_leaves_room_for_the_answer(url):
    used = ask(url, max_tokens=40)["usage"]
    thought = used["completion_tokens_details"]["reasoning_tokens"]
    assert used["completion_tokens"] <= 40 and 0 < thought <= 30


def test_samples_votes_and_seeds(url):
    one, two = (ask(url, n=3, temperature=1.5, seed=7, vote=True, max_tokens=30) for _ in range(2))
    assert [c["message"] for c in one["choices"]] == [c["message"] for c in two["choices"]] and one["id"] != two["id"]
    assert len({c["message"]["content"] for c in one["choices"]}) > 1
    assert sum(vote["count"] for vote in one["votes"]) == 3 and one["choices"][0]["index"] == 0
    assert one["votes"][0]["answer"] == one["choices"][0]["message"]["content"]
    assert 0 in one["votes"][0]["choices"]
    other = ask(url, n=3, temperature=1.5, seed=8, max_tokens=30)
    assert [c["message"] for c in other["choices"]] != [c["message"] for c in one["choices"]]
    free = [ask(url, temperature=1.5, max_tokens=30)["choices"][0]["message"] for _ in range(2)]
    assert free[0] != free[1]


def test_a_stop_text_ends_the_answer_and_is_left_out(url):
    whole = ask(url)["choices"][0]["message"]["content"]
    word = whole[3:5]
    cut = ask(url, stop=["never so", word])["choices"][0]
    assert cut["message"]["content"] == whole[: whole.index(word)].rstrip() and cut["finish_reason"] == "stop"


def test_logprobs_are_of_the_answer(url):
    choice = ask(url, logprobs=True, top_logprobs=2)["choices"][0]
    tokens = choice["logprobs"]["content"]
    assert all(token["logprob"] <= 0 and len(token["top_logprobs"]) == 2 for token in tokens)
    # greedy: the chosen one is the likeliest, except where the end of an empty answer was ruled out
    assert all(token["logprob"] <= token["top_logprobs"][0]["logprob"] + 1e-6 for token in tokens)
    assert 0 < len(tokens) <= 24


BAD = [
    ({"messages": []}, 400, "messages"),
    ({"messages": [{"role": "user", "content": " "}]}, 400, None),
    ({"messages": [{"role": "assistant", "content": "a"}]}, 400, None),
    ({"messages": [{"role": "tool", "content": "a"}]}, 400, "messages.0.role"),
    ({"messages": QUESTION, "model": "gpt-4"}, 404, "model"),
    ({"messages": QUESTION, "tools": []}, 400, "tools"),
    ({"messages": QUESTION, "n": 2, "temperature": 0}, 400, None),
    ({"messages": QUESTION, "n": 100}, 400, "n"),
    ({"messages": QUESTION, "temperature": -1}, 400, "temperature"),
    ({"messages": QUESTION, "thinking_budget": 2}, 400, None),
    ({"messages": QUESTION, "thinking_budget": 20, "max_thinking_tokens": 30}, 400, "thinking_budget"),
    ({"messages": QUESTION, "thinking_budget": 20, "enable_thinking": False}, 400, None),
    ({"messages": QUESTION, "max_tokens": 10, "enable_thinking": True}, 400, "max_tokens"),
    ({"messages": QUESTION, "vote": True}, 400, None),
    ({"messages": QUESTION, "stop": ["a"] * 5}, 400, "stop"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, 400, None),
    ({"messages": [{"role": "user", "content": "x" * 30_000}]}, 413, None),
    ({"messages": [{"role": "user", "content": "苹" * 1500}]}, 400, None),
]


@pytest.mark.parametrize(("body", "status", "param"), BAD, ids=lambda value: str(value)[:60])
def test_bad_requests_are_one_clear_error(url, body, status, param):
    got, _, data = post(url, "/v1/chat/completions", body)
    error = json.loads(data)["error"]
    assert got == status and set(error) == {"message", "type", "param", "code"} and error["message"]
    assert param is None or error["param"] == param


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b"[" * 5000, b"\xff", b'{"messages": 1e999}', b'{"seed": NaN}'])
def test_bodies_that_are_no_request(url, raw):
    status, _, data = post(url, "/v1/chat/completions", None, raw)
    assert status == 400 and json.loads(data)["error"]["message"]


def test_models_health_metrics_and_unknown_paths(client, url):
    from openai import NotFoundError

    assert [model.id for model in client.models.list()] == ["tiny", "steps"]
    assert client.models.retrieve("steps").created == 2
    with pytest.raises(NotFoundError):
        client.models.retrieve("other")
    host = http.client.HTTPConnection(url.removeprefix("http://"))
    for path, status, text in (("/health", 200, "ok"), ("/metrics", 200, "hf_reason_"), ("/v2", 404, "unknown_url")):
        host.request("GET", path)
        answer = host.getresponse()
        assert answer.status == status and text in answer.read().decode()


def test_feedback_names_its_answer(url):
    done = ask(url)
    status, _, data = post(url, "/v1/feedback", {"id": done["id"], "thumbs": "up", "comment": "好"})
    assert status == 201 and json.loads(data)["number"] >= 1
    assert post(url, "/v1/feedback", {"id": "chatcmpl-x", "thumbs": "up"})[0] == 404
    assert post(url, "/v1/feedback", {"id": done["id"]})[0] == 400
    assert post(url, "/v1/feedback", {"id": done["id"], "thumbs": "sideways"})[0] == 400


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(engine_and_url, stream):
    engine, url = engine_and_url
    host = http.client.HTTPConnection(url.removeprefix("http://"))
    body = {"messages": QUESTION, "temperature": 1.0, "n": 16, "stream": stream}
    host.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    deadline = time.monotonic() + 5
    while engine.load().running < 2 and time.monotonic() < deadline:
        time.sleep(0.002)
    assert engine.load().waiting > 0
    host.sock.close()
    while (load := engine.load()).running + load.waiting and time.monotonic() < deadline:
        time.sleep(0.01)
    assert load.running == load.waiting == 0
    assert ask(url, temperature=1.0)["choices"]
