"""recipes/bench/bench_serve.py: what its clients count, and its figures; the servers themselves are not started."""

import itertools
import json
import math
import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@pytest.fixture
def bench(bench_module):
    return bench_module("bench_serve")


def _chunk(delta=None, finish=None, usage=None):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"choices": choices, **({"usage": usage} if usage else {})}


# how `hf-reason serve` ends a stream, how `transformers serve` does, and streams that fail
STREAMS = {
    "ours": [
        _chunk({"role": "assistant"}),
        0.1,
        _chunk({"reasoning": "想"}),
        _chunk({"content": "4"}),
        _chunk({}, "stop"),
        _chunk(usage={"completion_tokens": 7}),
        "[DONE]",
    ],
    "theirs": [
        _chunk({"role": "assistant"}),
        _chunk({"content": "<|user|>1+3=?<|assistant|>"}),
        0.1,
        _chunk({"content": "4"}),
        _chunk({}, "stop", {"completion_tokens": 7}),
    ],
    "broken": [_chunk({"content": "4"})],
    "error": [_chunk({"content": "4"}), {"error": {"message": "Generation failed"}}],
    "busy": [],
}


@pytest.fixture
def server(bench):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            self.send_response(429 if body["model"] == "busy" else 200)
            self.end_headers()
            for part in STREAMS[body["model"]]:
                if isinstance(part, float):
                    time.sleep(part)
                    continue
                text = part if isinstance(part, str) else json.dumps(part)
                self.wfile.write(f"data: {text}\n\n".encode())

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{httpd.server_port}"
        yield lambda name: bench.Running(url, name, lambda: None), asked
        httpd.shutdown()


@pytest.mark.parametrize("name", ["ours", "theirs"])
def test_the_first_text_and_the_tokens_of_both_kinds_of_stream(bench, server, name):
    running, asked = server
    answer = bench.ask(running(name), "1+3=?", 32)
    assert not answer.error and answer.tokens == 7
    assert 0.1 <= answer.first <= answer.seconds < 5  # neither the role nor the prompt is the answer's text
    assert asked[0]["temperature"] == 0 and asked[0]["max_tokens"] == 32 and asked[0]["stream"] is True


@pytest.mark.parametrize(
    ("name", "message"), [("broken", "broke off"), ("error", "Generation failed"), ("busy", "status 429")]
)
def test_what_fails_is_counted_as_failed(bench, server, name, message):
    running, _ = server
    load = bench.run_load(running(name), itertools.repeat("1+3=?"), 2, 32, requests=4)
    assert all(message in answer.error for answer in load.answers) and load.figures()["failed"] == 4
    assert math.isnan(load.figures()["latency_p50"]) and load.figures()["tokens"] == 0


def test_clients_send_as_many_requests_as_asked_and_work_at_once(bench, server):
    running, asked = server
    questions = (str(number) for number in itertools.count())
    load = bench.run_load(running("theirs"), questions, 5, 32, requests=20)
    figures = load.figures()
    assert len(load.answers) == 20 and figures["failed"] == 0 and figures["mean_tokens"] == 7
    assert sorted(int(body["messages"][0]["content"]) for body in asked) == list(range(20))
    assert load.seconds < 20 * 0.1 and figures["requests"] == pytest.approx(20 / load.seconds)
    assert figures["tokens"] == pytest.approx(140 / load.seconds)


def test_figures_by_hand(bench):
    from serve_load import percentile

    assert [percentile([4, 1, 3, 2], percent) for percent in (1, 50, 51, 95, 100)] == [1, 2, 3, 4, 4]
    assert math.isnan(percentile([], 50))
    samples = [(minute, 70.0 if minute < 10 else 100 + 2 * minute) for minute in range(60)]
    assert bench.growth(samples) == pytest.approx(120)  # 2 MB a minute; the first sixth does not count
    run = {"samples": samples, "answered": 9, "failed": 1, "growth": 120.0}
    assert bench._soak_row("ours", run)[3:] == [
        "70 MB",
        "120 MB",
        *[f"{m} MB" for m in (140, 160, 178, 198, 218)],
        "+120.0",
    ]
    assert bench.ratio({"tokens": 30}, {"tokens": 20}, "tokens") == "1.50"
    same = {"tokens": 30}
    assert bench.ratio(same, same, "tokens") == bench.ratio(same, None, "tokens") == "-"


def test_clients_pause_between_their_requests(bench, server):
    running, asked = server
    load = bench.run_load(running("theirs"), itertools.repeat("1+3=?"), 2, 32, seconds=0.6, pause=0.4)
    assert len(asked) == len(load.answers) == 4  # 0.1 s each, at 0 and 0.5 s


def test_a_killed_replica_is_whole_again_when_another_process_tells_its_metrics(bench, server):
    from serve_kill import Arrangement, kill_row, kill_under_load

    class Replicas:
        """One process, which is started again 0.3 s after it ends."""

        def __init__(self):
            self.start()
            threading.Thread(target=self.keep, daemon=True).start()

        def start(self):
            self.process = subprocess.Popen(["sleep", "60"])

        def keep(self):
            assert self.process.wait() == -signal.SIGKILL
            time.sleep(0.3)
            self.start()

        def tell(self, handler):
            handler.send_response(200)
            handler.end_headers()
            if self.process.poll() is None:
                handler.wfile.write(f"# HELP x\nhf_reason_batch_size_created {self.process.pid}.0\n".encode())

    replicas = Replicas()
    handler = type(
        "Metrics",
        (BaseHTTPRequestHandler,),
        {"do_GET": lambda self: replicas.tell(self), "log_message": lambda *_: None},
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        try:
            url = f"http://127.0.0.1:{httpd.server_port}"
            found = Arrangement(server[0]("ours"), lambda: [replicas.process.pid], [url])
            load, whole = kill_under_load(found, 1, itertools.repeat("1+3=?"), 2, 32, seconds=0.4)
        finally:
            replicas.process.kill()
            httpd.shutdown()
    assert 0.3 <= whole < 5 and len(load.answers) >= 4
    row = kill_row("one", load, whole)
    assert row[:3] == ["one", str(len(load.answers)), "0"] and row[4] == f"{whole:.1f} s"


def test_each_side_has_the_same_limits(bench, tmp_path):
    words = ["--model_name_or_path", "m", "--step_reasoner", "s", "--engine", "generate", "continuous"]
    args = bench.parse([*words, "--max_tokens", "64"])
    assert list(bench.sides_of(args, tmp_path)) == [
        "hf-reason serve, generate",
        "hf-reason serve, continuous",
        "transformers serve",
        "transformers serve, continuous batching",
        "StepReasoner, generate",
    ]
    alone = bench.parse(["--model_name_or_path", "m", "--no_transformers"])
    assert list(bench.sides_of(alone, tmp_path)) == ["hf-reason serve, generate"]
