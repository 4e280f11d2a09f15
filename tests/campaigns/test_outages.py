"""A teacher's server that goes away and comes back: traces and a distillation go on."""

import json
import threading
import time
from http.server import ThreadingHTTPServer

import pytest
import tiny
from trace_files import write_jsonl
from trace_server import FakeTeacher

from hf_reason.cli.main import main
from hf_reason.teachers import client


class Outage(threading.Thread):
    """Takes a server down once it was asked `after` times, and brings it back on its port."""

    def __init__(self, server, after, seconds):
        super().__init__(daemon=True)
        self.server, self.after, self.seconds, self.happened = server, after, seconds, False
        self.start()

    def run(self):
        while len(self.server.requests) < self.after:
            time.sleep(0.001)
        port = self.server.http.server_port
        self.server.close()
        time.sleep(self.seconds)
        self.server.http = ThreadingHTTPServer(("127.0.0.1", port), self.server.http.RequestHandlerClass)
        self.server.http.daemon_threads = True
        self.server.thread = threading.Thread(target=self.server.http.serve_forever, args=(0.01,), daemon=True)
        self.server.thread.start()
        self.happened = True


@pytest.fixture
def traces(tmp_path, records, monkeypatch):
    """`generate-traces` in this process; returns its exit code and the lines of a file."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(
        tmp_path / "mine.jsonl", [{"question": row["context"], "answer": row["answer"]} for row in records[:8]]
    )
    servers = []

    def run(output, retries, outage=None):
        server = FakeTeacher(records)
        server.delay = 0.002
        servers.append(server)
        words = ["generate-traces", "--dataset_name", "mine.jsonl", "--teacher_model_name_or_path", server.url]
        words += ["--output_dir", output, "--retries", str(retries), "--num_samples", "6", "--parallel", "2"]
        down = outage and Outage(server, 10, outage)
        code = main(words)
        if down:
            down.join(20)
            assert down.happened
        return code, server, words

    yield run
    for server in servers:
        server.close()


def test_a_teacher_that_comes_back_is_waited_for(traces, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "_BACKOFF", 0.05)
    assert traces("whole", 3)[0] == 0 and traces("out", 8, outage=0.5)[0] == 0
    for name in ("traces.jsonl", "predictions.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert json.loads((tmp_path / "out" / "traces.json").read_text())["missing_samples"] == 0


def test_a_teacher_that_stays_away_loses_nothing_of_what_it_wrote(traces, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(client, "_BACKOFF", 0.001)
    assert traces("whole", 3)[0] == 0
    code, server, words = traces("out", 1, outage=1.0)
    said = capsys.readouterr().err
    there = len((tmp_path / "out" / "samples.jsonl").read_text().splitlines()) - 1
    assert 8 <= there < 48 and "Traceback" not in said
    assert code == 0 or said.strip().splitlines()[-1].startswith("Error: ")
    server.requests.clear()
    assert main(words) == 0 and len(server.requests) == 48 - there
    for name in ("traces.jsonl", "predictions.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_distillation_goes_on_when_its_teacher_comes_back(tmp_path, tiny_model, tokenizer, records, monkeypatch):
    from teacher_server import FakeServer

    from hf_reason.trainers import DistillKLConfig, DistillKLTrainer

    monkeypatch.setattr(client, "_BACKOFF", 0.05)
    teacher = tiny.tiny_qwen2(tokenizer, seed=3)
    tiny.save_model(tmp_path / "local", teacher, tokenizer)
    curves = []
    for outage in (None, 0.3):
        server = FakeServer(teacher.eval())
        options = {"top_k": 16, "teacher_probe": str(tmp_path / "local"), "max_steps": 3, "kl_weight": 0.5}
        trainer = tiny.tiny_trainer(
            DistillKLTrainer,
            DistillKLConfig,
            tmp_path / "out",
            tiny_model,
            tokenizer,
            records[:12],
            trainer_options={"teacher_model": server.url},
            **options,
        )
        down = outage and Outage(server, len(server.requests) + 5, outage)
        trainer.train()
        curves.append(tiny.logged(trainer))
        assert not down or down.happened
        server.close()
    assert curves[0] == curves[1] and len(curves[0]) == 3
