"""The gateway in front of servers that answer as vLLM, SGLang and llama.cpp do, and in front of our own."""

import contextlib
import http.client
import json
import logging
import socket
import subprocess
import sys
import threading
import time

import pytest
from chat_templates import HYBRID_TEMPLATE, R1_PREFILL_TEMPLATE, R1_TEMPLATE
from serving_server import serving
from upstream_server import ANSWER, THOUGHT, FakeUpstream

from hf_reason.serving.app import create_app
from hf_reason.serving.cache import open_cache
from hf_reason.serving.engines.openai import OpenAIEngine
from hf_reason.serving.engines.template import ChatTemplate
from hf_reason.serving.engines.upstream import Upstream
from hf_reason.serving.metrics import Metrics
from hf_reason.serving.settings import ServeSettings

QUESTION = [{"role": "user", "content": "小明有12个苹果,又买来25个,卖出8个。现在有多少个?"}]
STEPS = ["增加后:12+25=37个", "减少后:37-8=29个"]
SERVERS = {
    "vllm": {"kind": "vllm"},
    "vllm, old": {"kind": "vllm", "field": "reasoning_content", "opens": False},
    "vllm behind a proxy": {"kind": "vllm", "extras": False, "opens": False},
    "vllm behind a proxy, no parser": {"kind": "vllm", "extras": False, "field": ""},
    "sglang": {"kind": "sglang", "field": "reasoning_content", "opens": False},
    "sglang, no parser": {"kind": "sglang", "field": "", "opens": False},
    "sglang, no parser, opened": {"kind": "sglang", "field": ""},
    "llamacpp": {"kind": "llamacpp", "field": "reasoning_content"},
    "llamacpp, old": {"kind": "llamacpp", "field": "reasoning_content", "extras": False, "opens": False},
    "llamacpp, tags": {"kind": "llamacpp", "field": "", "opens": False},
}


@contextlib.contextmanager
def gateway(*apps, settings=None, timeout=20.0, key="", cache=None, **options):
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(serving(app)) if not isinstance(app, str) else app for app in apps]
        engine = OpenAIEngine.connect([Upstream(f"{url}/v1", api_key=key, timeout=timeout) for url in urls], **options)
        settings = settings or ServeSettings(max_thought_tokens=100, max_answer_tokens=20, chunk_interval=0)
        app = create_app(engine, settings, metrics=Metrics(process=False), cache=open_cache(cache))
        yield stack.enter_context(serving(app))


def ask(url, path="/v1/chat/completions", status=200, **body):
    host = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    method = "POST" if path.startswith("/v1/chat") else "GET"
    data = json.dumps({"messages": QUESTION, "temperature": 0, **body}).encode() if method == "POST" else None
    host.request(method, path, data, {"Content-Type": "application/json"})
    answer = host.getresponse()
    said = answer.read()
    assert answer.status == status, said
    if body.get("stream"):
        return [json.loads(line[6:]) for line in said.decode().split("\n\n") if line.startswith("data: {")]
    return json.loads(said)


FAST = ("vllm", "sglang, no parser, opened", "llamacpp")


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in SERVERS]
)
def fake(request):
    app = FakeUpstream(**SERVERS[request.param])
    with gateway(app) as url:
        yield app, url


def test_a_thought_is_found_wherever_the_server_puts_it(fake):
    app, url = fake
    for stream in (False, True):
        if stream:
            chunks = ask(url, stream=True, stream_options={"include_usage": True})
            found = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
            message = {
                name: "".join(delta.get(name) or "" for delta in found) for name in ("reasoning", "content")
            } | {"steps": next(delta["steps"] for delta in found if "steps" in delta)}
            thought = [number for number, delta in enumerate(found) if delta.get("reasoning")]
            assert len(thought) > 5  # it streams
            assert max(thought) < min(number for number, delta in enumerate(found) if delta.get("content"))
            usage = chunks[-1]["usage"]
        else:
            done = ask(url)
            message, usage = done["choices"][0]["message"], done["usage"]
            assert done["choices"][0]["finish_reason"] == "stop"
            assert done["choices"][0]["thought_closed_by"] == "model"
        assert (message["reasoning"], message["content"], message["steps"]) == (THOUGHT.strip(), ANSWER, STEPS)
        thought = usage["completion_tokens_details"]["reasoning_tokens"]
        assert len(THOUGHT) <= thought <= len(THOUGHT) + 3 and usage["prompt_tokens"] > len(QUESTION[0]["content"])
        assert len(ANSWER) <= usage["completion_tokens"] - thought <= len(ANSWER) + 2


@pytest.mark.parametrize(("budget", "steps"), [(34, 1), (12, 0)], ids=["at the end of a step", "within the first"])
def test_a_budget_closes_the_thought_and_the_answer_still_comes(fake, budget, steps):
    app, url = fake
    app.requests.clear()
    done = ask(url, thinking_budget=budget)
    choice = done["choices"][0]
    assert choice["message"]["content"] == ANSWER and choice["thought_closed_by"] == "budget"
    assert done["usage"]["completion_tokens_details"]["reasoning_tokens"] <= budget
    thought = choice["message"]["reasoning"]
    assert THOUGHT.startswith(thought) and 0 < len(thought) < budget
    if steps:
        assert choice["message"]["steps"] == STEPS[:steps]
    first, second = (request for _, request in app.requests)
    assert first["max_tokens"] < budget and second["max_tokens"] == 20
    last = second.get("prompt") or second["messages"][-1]["content"]
    assert f"{thought}\n</think>" in last and last.count("</think>") == 1 and last.count("<think>") <= 1


def test_without_a_thought(fake):
    app, url = fake
    app.requests.clear()
    done = ask(url, enable_thinking=False)
    message = done["choices"][0]["message"]
    ((path, request),) = app.requests
    assert message["reasoning"] is None and message["steps"] == []
    if path.endswith("chat/completions"):  # only the server's template can turn it off
        assert request["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}
    else:
        assert request["prompt"].endswith("<think>\n\n</think>\n\n") and message["content"] == ANSWER


def test_a_limit_stops_votes_and_logprobs(fake):
    app, url = fake
    app.answer = "一共29个。谢谢"
    try:
        assert ask(url, stop=["谢"])["choices"][0]["message"]["content"] == "一共29个。"
        cut = ask(url, max_tokens=60)
        assert cut["usage"]["completion_tokens"] <= 60 and cut["choices"][0]["message"]["content"]
        limited = ask(url, max_answer_tokens=5)["choices"][0]
        assert limited["finish_reason"] == "length" and "一共29个".startswith(limited["message"]["content"])
        done = ask(url, n=3, temperature=0.7, seed=4, vote=True, logprobs=True, top_logprobs=1)
        assert done["votes"][0]["count"] == 3 and len(done["choices"]) == 3
        said = "".join(token["token"] for token in done["choices"][0]["logprobs"]["content"])
        assert said.strip() == app.answer
        assert {request["seed"] for _, request in app.requests[-6:]} == {4, 5, 6}
    finally:
        app.answer = ANSWER


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vllm", "sglang", "llamacpp"])
def test_a_model_without_thoughts_answers(kind):
    with gateway(FakeUpstream(kind, field="", opens=False, thinks=False, extras=False)) as url:
        choice = ask(url)["choices"][0]
    assert choice["message"]["content"] == ANSWER and choice["message"]["reasoning"] is None


FAILURES = [
    ((400, {"error": {"message": "too long"}}), 400, "upstream_refused", "too long"),
    ((422, {"detail": "not so"}), 400, "upstream_refused", "not so"),
    ((401, {"error": {"message": "key"}}), 502, "upstream_key", "key"),
    ((429, {}, {"Retry-After": "7"}), 429, "upstream_busy", "too much"),
    ((500, b"<html>"), 502, "upstream_error", "500"),
    ((503, {"error": "loading"}), 503, "upstream_unavailable", "not ready"),
    ((302, b"", {"Location": "http://127.0.0.1:1/"}), 502, "upstream_error", "302"),
    ("break", 502, "upstream_broken", "broke off"),
    ("garbage", 502, "upstream_broken", "no JSON"),
    ("hang", 504, "upstream_timeout", "silent"),
]


@pytest.fixture(scope="module")
def failing():
    app = FakeUpstream("sglang")
    with gateway(app, timeout=0.3, key="sk-secret") as url:
        yield app, url


@pytest.mark.parametrize(("failure", "status", "code", "text"), FAILURES, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("stream", [False, True])
def test_failures_of_the_server_have_the_shape_of_the_api(failing, failure, status, code, text, stream, caplog):
    app, url = failing
    app.failures = [failure]
    with caplog.at_level(logging.DEBUG):
        error = ask(url, stream=True)[-1]["error"] if stream else ask(url, status=status)["error"]
    assert error["code"] == code and text in error["message"] and "127.0.0.1" not in error["message"]
    assert app.keys[-1] == "Bearer sk-secret" and "sk-secret" not in caplog.text + str(error)
    assert ask(url)["choices"][0]["message"]["content"] == ANSWER  # and the next one is well


def test_a_client_that_leaves_ends_the_work_of_the_server(failing):
    app, url = failing
    app.failures, before = ["hang"], app.gone
    host = http.client.HTTPConnection(url.removeprefix("http://"))
    body = json.dumps({"messages": QUESTION, "stream": True})
    host.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    host.getresponse().readline()
    host.sock.close()
    deadline = time.monotonic() + 5
    while app.gone == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert app.gone == before + 1


class _Restarting:
    """An app on a port of its own that can go and come back."""

    def __init__(self, app):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.app, self.url = app, f"http://127.0.0.1:{self.port}"

    def start(self):
        import uvicorn

        config = uvicorn.Config(self.app, host="127.0.0.1", port=self.port, log_level="error")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self):
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(10)


def _well(url):
    """Whether /health says so within 5 seconds."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with contextlib.suppress(AssertionError):
            return bool(ask(url, "/health"))
        time.sleep(0.02)
    return False


@pytest.mark.slow
def test_a_server_that_goes_and_comes_back(monkeypatch):
    monkeypatch.setattr("hf_reason.serving.engines.openai._RETURN", 0.05)
    behind = _Restarting(FakeUpstream("sglang"))
    behind.start()
    try:
        with gateway(behind.url) as url:
            assert ask(url)["choices"][0]["message"]["content"] == ANSWER
            behind.stop()
            assert ask(url, status=503)["error"]["code"] == "upstream_unavailable"
            assert ask(url, "/health", status=503)["error"]["code"] == "unavailable"
            behind.start()
            assert _well(url)
            assert ask(url)["choices"][0]["message"]["content"] == ANSWER
            behind.stop()
            behind.start()  # connections that were kept are dead now
            assert ask(url)["choices"][0]["message"]["content"] == ANSWER
    finally:
        behind.stop()


def test_servers_of_one_model_share_the_load_and_stand_in_for_each_other():
    one, other, third = FakeUpstream("sglang"), _Restarting(FakeUpstream("sglang")), FakeUpstream("vllm")
    third.names = ["v2"]
    other.start()
    with gateway(one, other.url, third) as url:
        assert [card["id"] for card in ask(url, "/v1/models")["data"]] == ["r1", "v2"]
        ask(url, n=8, temperature=1)
        assert len(one.requests) == len(other.app.requests) == 8 and not third.requests
        other.stop()
        assert len(ask(url, n=4, temperature=1)["choices"]) == 4
        assert len(ask(url, model="v2")["choices"]) == 1 and len(third.requests) == 2


def test_names_and_what_is_said_at_the_start():
    app = FakeUpstream("sglang")
    with gateway(app, names={"mine": "r1"}) as url:
        assert [card["id"] for card in ask(url, "/v1/models")["data"]] == ["mine"]
        assert ask(url, model="mine")["model"] == "mine" and app.requests[-1][1]["model"] == "r1"
    with serving(app) as url:
        with pytest.raises(ValueError, match="no server has the model r2"):
            OpenAIEngine.connect([Upstream(f"{url}/v1")], names={"mine": "r2"})
        with pytest.raises(ValueError, match="engine_url.*Start it first"):
            OpenAIEngine.connect([Upstream(url)])
    with pytest.raises(ValueError, match="cannot be reached"):
        OpenAIEngine.connect([Upstream("http://127.0.0.1:9/v1")])
    with pytest.raises(ValueError, match="engine_url: .* is no URL"):
        Upstream("vllm:8000")


@pytest.mark.slow
def test_results_are_kept_only_for_a_known_revision(tmp_path):
    app = FakeUpstream("sglang")
    for revision, asked in (("", 4), ("a", 2)):
        app.requests.clear()
        with gateway(app, cache=str(tmp_path / f"{revision}.db"), revision=revision) as url:
            first, second = ask(url), ask(url)
        assert len(app.requests) == asked and first["choices"] == second["choices"]


@pytest.mark.slow
@pytest.mark.parametrize("template", [R1_TEMPLATE, R1_PREFILL_TEMPLATE, HYBRID_TEMPLATE])
@pytest.mark.parametrize("kind", ["vllm", "sglang", "other"])
def test_prompts_from_the_models_own_template(tmp_path, template, kind):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "bos_token": "<s>"}))
    (tmp_path / "instructions.yaml").write_text("math: '算:{context}'\n", encoding="utf-8")
    app = FakeUpstream(kind, opens=template == R1_PREFILL_TEMPLATE)
    with gateway(app, template=ChatTemplate(tmp_path)) as url:
        done = ask(url, domain="math", thinking_budget=34)
        assert done["choices"][0]["message"]["steps"] == STEPS[:1]
        assert {path for path, _ in app.requests} == {"/v1/completions"}
        assert app.requests[0][1]["prompt"] == f"<|user|>算:{QUESTION[0]['content']}<|assistant|><think>\n"
        assert ask(url, enable_thinking=False)["choices"][0]["message"]["content"] == ANSWER
        turns = [*QUESTION, {"role": "assistant", "content": "<think>\n步骤1:一\n</think>\n\n29"}, *QUESTION]
        ask(url, messages=turns)
        assert "步骤1" not in app.requests[-2][1]["prompt"]


def test_a_template_writes_what_transformers_writes(tokenizer, tmp_path):
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    for text in (
        R1_TEMPLATE,
        HYBRID_TEMPLATE,
        "{{ bos_token }}\n{% for m in messages %}\n  {{ m | tojson }}\n{% endfor %}",
    ):
        tokenizer.chat_template = text
        tokenizer.save_pretrained(tmp_path)
        ours = ChatTemplate(tmp_path)
        options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
        assert ours.apply_chat_template(messages, **options) == tokenizer.apply_chat_template(messages, **options)
    with pytest.raises(ValueError, match="engine_tokenizer: .*cannot be read"):
        ChatTemplate(tmp_path / "nowhere")


@pytest.mark.slow
def test_the_gateway_needs_no_torch(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": R1_TEMPLATE}))
    with serving(FakeUpstream("vllm")) as url:
        code = (
            "import sys\nfrom hf_reason.cli.serve import ServeArguments, make_app\n"
            "from hf_reason.serving.keys import ApiKeys\n"
            f"args = ServeArguments(engine='openai', engine_url=['{url}/v1'], output_dir=r'{tmp_path}',\n"
            f"    engine_tokenizer=r'{tmp_path}')\n"
            "make_app(args, ApiKeys())\n"
            "print([name for name in ('torch', 'transformers', 'datasets') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_in_front_of_a_server_of_this_project(_session_tokenizer):
    """It says the same as the server behind it: budgets are that server's own."""
    import copy

    from tiny import tiny_qwen2

    from hf_reason.serving.engines.base import ModelCard
    from hf_reason.serving.engines.generate import GenerateEngine
    from hf_reason.serving.engines.served_model import ServedModel

    tokenizer = copy.deepcopy(_session_tokenizer)
    served = ServedModel(ModelCard("tiny", 1, revision="a"), tiny_qwen2(tokenizer).eval(), tokenizer)
    settings = ServeSettings(max_thought_tokens=48, max_answer_tokens=24)
    behind = create_app(GenerateEngine([served]), settings, metrics=Metrics(process=False))
    with serving(behind) as direct, gateway(direct, settings=settings) as url:
        for body in (
            {},
            {"thinking_budget": 16, "max_answer_tokens": 9},
            {"max_tokens": 40, "stop": ["个"]},
            {"temperature": 1.1, "seed": 3, "n": 2, "top_p": 0.9, "frequency_penalty": 0.5},
            {"enable_thinking": False, "task": "一步一步想"},
            {"logprobs": True, "top_logprobs": 2},
        ):
            expected, found = ask(direct, **body), ask(url, **body)
            assert found["choices"] == expected["choices"] and found["usage"] == expected["usage"]
