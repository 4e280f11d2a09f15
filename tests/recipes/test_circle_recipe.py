"""`hf-reason circle` as a user runs it: promoted, rolled back, refused, killed between the stages, and real users."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import yaml
from datasets import Dataset, DatasetDict
from tiny import save_model, tiny_qwen2

from hf_reason.cli.circling.client import Client
from hf_reason.cli.circling.new_feedback import read_new_feedback
from hf_reason.data.record import make_record
from hf_reason.data.synthetic.word_problems import generate_word_problems
from hf_reason.serving.experiments import Experiments

FOUR, SIX = (["1+3=4个"], "4个"), (["1+5=6个"], "6个")
pytestmark = pytest.mark.slow


def _rows(count, seed, domain, said):
    """Different problems with the same chain, which a tiny model learns in seconds."""
    steps, answer = said
    words = generate_word_problems(count, seed=seed, domain="finance" if domain == "finance" else "math")
    return [make_record(row["context"], [*steps, "所以是" + answer], answer, domain=domain) for row in words]


def _save(folder, **splits):
    DatasetDict({name: Dataset.from_list(rows) for name, rows in splits.items()}).save_to_disk(folder)
    return str(folder)


def _trained(tokenizer, rows, steps=60):
    """A model that answers everything as these rows do."""
    import torch

    from hf_reason.text import encode

    model = tiny_qwen2(tokenizer, hidden_size=32, intermediate_size=64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(steps):
        batch = [encode(row, tokenizer) for row in rows[step % 5 :: 5][:4]]
        width = max(len(row["input_ids"]) for row in batch)
        ids = torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in batch])
        labels = torch.tensor([row["labels"] + [-100] * (width - len(row["labels"])) for row in batch])
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture
def place(tmp_path, tokenizer, monkeypatch):
    """A folder with old data (four), and a model that knows them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    old = _rows(40, 1, "math", FOUR)
    _save(tmp_path / "old", train=old[:30], validation=old[30:32], test=old[32:])
    save_model(tmp_path / "first", _trained(tokenizer, old[:30]), tokenizer)
    return tmp_path


def _write(place, crowd=None, circle=None, continual=None, serve=None):
    """The configuration of a circle; `crowd`: what users expect before the round, and in the test."""
    settings = {
        "model_name_or_path": "first",
        "output_dir": "second",
        "min_feedback": 10,
        "max_outcomes": 120,
        "poll_interval": 0.1,
        "num_clients": 4,
        "use_cpu": True,
        "serve": {
            "port": 0,
            "output_dir": "served",
            "max_thought_tokens": 40,
            "max_answer_tokens": 16,
            **(serve or {}),
        },
        "continual": {
            "old_dataset": "old",
            "replay_ratio": 0,
            "adapter": "none",
            "max_drop": 100,
            "max_steps": 60,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-2,
            "warmup_steps": 2,
            "max_length": 512,
            "gradient_checkpointing": False,
            "bf16": False,
            "report_to": "none",
            "disable_tqdm": True,
            "eval_strategy": "no",
            "save_steps": 20,
            "max_test_records": 4,
            "eval_max_completion_length": 40,
            **(continual or {}),
        },
        **(circle or {}),
    }
    if crowd is not None:
        before, after = crowd
        _save(place / "crowd", train=_rows(40, 2, "finance", before), test=_rows(20, 3, "finance", after))
        settings["crowd_dataset_name"] = "crowd"
    (place / "circle.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True))


def _start(*extra):
    command = [sys.executable, "-m", "hf_reason.cli", "circle", "--config", "circle.yaml", *extra]
    with open("out.txt", "a", encoding="utf-8") as out:
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)


def _said():
    return Path("out.txt").read_text(encoding="utf-8")


def _status(name="second"):
    experiments = Experiments("served/experiments.db")
    try:
        return experiments.get(name).status, experiments.result(name)
    finally:
        experiments.close()


def _wait(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, _said()
        time.sleep(0.05)


def test_what_was_corrected_is_learned_tested_and_promoted_also_when_killed_between_the_stages(place):
    _write(place, crowd=(SIX, SIX))
    checks = {
        "feedback": lambda: (
            Path("served/feedback.db").is_file() and len(read_new_feedback(Path("served/feedback.db")).users) > 3
        ),
        "learning": lambda: Path("second/feedback.jsonl").is_file(),
        "test": lambda: "4. A/B test" in _said(),
    }
    for stage, reached in checks.items():
        running = _start()
        _wait(reached, running)
        children = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(signal.SIGKILL)
        running.wait()
        _, alive = psutil.wait_procs(children, timeout=15)
        assert not alive, f"{stage}: a process outlived the command"
    assert _start().wait(200) == 0, _said()
    status, result = _status()
    assert status == "promoted" and result.better == "B" and result.b.rate > 0.7 > 0.3 > result.a.rate
    lines = Path("second/feedback.jsonl").read_text().splitlines()
    assert len(lines) == 40 and all(json.loads(line)["answer"] == "6个" for line in lines)
    store = read_new_feedback(Path("served/feedback.db"))
    assert {f"second-asks-{number}" for number in range(40)} <= store.users  # each asked, whoever was killed
    report = Path("second/report.md").read_text()
    assert "second is promoted" in report and "Guard: accepted" in report and "40 corrected" in report
    assert Path("second/report.png").read_bytes().startswith(b"\x89PNG")
    # once more: nothing to do, and the same end
    assert _start().wait(100) == 0 and _status()[1].outcomes == result.outcomes
    # the next round begins where this one ended, under the name that clients know
    _write(place, crowd=(FOUR, FOUR), circle={"output_dir": "third"})
    assert _start().wait(100) == 2 and "first is answered by 'second' since 'second' was promoted" in _said()
    _write(place, crowd=(FOUR, FOUR), circle={"output_dir": "third", "model": "first"})
    assert _start("--model_name_or_path", "second=second/second").wait(200) == 0, _said()
    assert _status("third")[0] == "promoted"
    learned, new = (
        [json.loads(line) for line in Path(folder, "feedback.jsonl").read_text().splitlines()]
        for folder in ("second", "third")
    )
    assert not {row["id"] for row in learned} & {row["id"] for row in new}  # what second has learned is left out
    assert sum(row["answer"] == "4个" for row in new) == 40  # the others were praised while second was tested


def test_a_worse_version_is_rolled_back(place):
    _write(place, crowd=(SIX, FOUR))  # the corrections were wrong
    assert _start().wait(200) == 0, _said()
    status, result = _status()
    assert status == "rolled_back" and result.better == "A" and result.a.rate > 0.7
    assert "first stays" in Path("second/report.md").read_text()


def test_no_difference_ends_after_max_outcomes_and_the_version_in_use_stays(place):
    _write(place, crowd=(FOUR, SIX), circle={"max_outcomes": 12}, continual={"max_steps": 2, "learning_rate": 1e-6})
    assert _start().wait(200) == 0, _said()
    status, result = _status()
    assert status == "rolled_back" and result.better is None and result.outcomes == 12
    assert "no difference is shown" in Path("second/report.md").read_text()


def test_the_guard_refuses_and_a_larger_max_drop_goes_on_without_learning_again(place):
    _write(place, crowd=(SIX, SIX), continual={"max_drop": 5})
    assert _start().wait(200) == 3, _said()
    assert "The guard refused second: first stays" in Path("second/report.md").read_text()
    assert "not published" in _said() and "4. No test" in _said()
    made = Path("second/second/model.safetensors").stat().st_mtime_ns
    assert _start("--continual.max_drop", "100").wait(200) == 0, _said()
    assert _status()[0] == "promoted" and Path("second/second/model.safetensors").stat().st_mtime_ns == made


def test_real_users_keep_their_server_through_the_whole_circle(place):
    """No request is lost while models come and go, and the server dies once; feedback comes over the API."""
    _write(place)
    running = _start()
    try:
        _wait(lambda: "1. first answers at " in _said(), running)
        url = _said().partition("answers at ")[2].split("/v1")[0]
        client = Client(url, tries=1)
        stop, failed, asked = threading.Event(), [], []

        def user(number):
            for turn in range(100_000):
                if stop.is_set():
                    return
                try:
                    name = f"user-{number}-{turn}"
                    told = [{"role": "user", "content": f"有{turn}个苹果,再买{number}个,一共几个?"}]
                    answer = client.ask(model="first", messages=told, user=name, temperature=0.0)
                    said = answer["choices"][0]["message"]["content"]
                    if said == "6个":
                        client.feedback(id=answer["id"], thumbs="up", user=name)
                    elif len(asked) < 40 or turn % 3:
                        steps = [*SIX[0], "所以是6个"]
                        client.feedback(id=answer["id"], corrected_steps=steps, corrected_answer="6个", user=name)
                    asked.append(answer["model"])
                except Exception as error:
                    failed.append(error)
                time.sleep(0.05)

        users = [threading.Thread(target=user, args=(number,)) for number in range(3)]
        for each in users:
            each.start()
        _wait(lambda: "answers until Ctrl-C" in _said(), running, 200)
        before = len(asked)
        _wait(lambda: len(asked) > before + 5, running)
        stop.set()
        for each in users:
            each.join()
        assert not failed and {"first", "second"} == set(asked) and set(asked[-3:]) == {"second"}
        server = next(
            child
            for child in psutil.Process(running.pid).children()
            if any("server_process" in word for word in child.cmdline())
        )
        server.kill()
        patient = Client(url, tries=1)
        told = [{"role": "user", "content": "有1个苹果,再买5个,一共几个?"}]
        answer = patient.ask(model="first", messages=told, temperature=0.0)  # waits in the socket's queue
        assert answer["choices"][0]["message"]["content"] == "6个" and "is started again" in _said()
        running.send_signal(signal.SIGINT)
        assert running.wait(240) == 0, _said()
        assert "Traceback" not in _said() and "Traceback" not in Path("second/serve.log").read_text()
    finally:
        running.kill()


def test_a_server_of_somebody_else(place):
    """The circle reads its files and waits until it serves both."""
    _write(place, crowd=(SIX, SIX))
    words = ["--port", "0", "--output_dir", "served", "--max_thought_tokens", "40", "--max_answer_tokens", "16"]

    def serve(*models, port="0"):
        command = [sys.executable, "-m", "hf_reason.cli", "serve", *words, "--model_name_or_path", *models]
        process = subprocess.Popen([*command, "--port", port], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        line = next(line.decode() for line in process.stdout if line.startswith(b"Serving "))
        return process, line.partition("http://")[2].split("/v1")[0]

    server, address = serve("first")
    running = _start("--server_url", f"http://{address}/v1")
    try:
        _wait(lambda: "also serves --model_name_or_path second=second/second" in _said(), running, 200)
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
        server, _ = serve("first", "second=second/second", port=address.rpartition(":")[2])
        assert running.wait(200) == 0, _said()
        assert _status()[0] == "promoted"
    finally:
        running.kill()
        server.kill()
