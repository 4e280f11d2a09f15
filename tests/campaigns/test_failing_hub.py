"""A Hub that answers 429 or 5xx, or breaks off: a right result or one line, and the same command goes on."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from datasets import load_dataset
from hub_server import Fault, HubServer
from tiny import save_model, tiny_qwen2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
_MODEL, _PROBLEMS = "tester/tiny", "tester/problems"
_UPLOAD = """
import sys
from huggingface_hub import HfApi
HfApi().create_repo(sys.argv[1], repo_type=sys.argv[2])
HfApi().upload_folder(repo_id=sys.argv[1], repo_type=sys.argv[2], folder_path=sys.argv[3])
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory, _session_tokenizer, records) -> Iterator[HubServer]:
    """A Hub with a tiny model and some problems."""
    folder = tmp_path_factory.mktemp("hub")
    save_model(folder / "model", tiny_qwen2(_session_tokenizer), _session_tokenizer)
    rows = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    for split, part in (("train", rows[:40]), ("validation", rows[40:50]), ("test", rows[50:])):
        (folder / "data").mkdir(exist_ok=True)
        (folder / "data" / f"{split}.jsonl").write_text("".join(part), encoding="utf-8")
    load_dataset(str(folder / "data")).save_to_disk(str(folder / "prepared"))
    with HubServer(folder / "server") as server:
        for name, kind in ((_MODEL, "model"), (_PROBLEMS, "dataset")):
            command = [
                sys.executable,
                "-c",
                _UPLOAD,
                name,
                kind,
                str(folder / ("model" if kind == "model" else "data")),
            ]
            subprocess.run(command, env=server.env(), check=True, capture_output=True)
        yield server


@pytest.fixture
def faulty(hub: HubServer) -> Iterator[Callable[..., None]]:
    """Sets what goes wrong: the first `count` requests whose line has `part` in it; -1 for each."""

    def set_fault(part: str, fault: Fault, count: int = -1) -> None:
        left = [count]

        def find(request: str) -> Fault | None:
            if part not in request or left[0] == 0:
                return None
            left[0] -= 1
            return fault

        hub.fault = find

    yield set_fault
    hub.fault = lambda _request: None


def call(hub: HubServer, home: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "hf_reason.cli", *map(str, words)]
    return subprocess.run(command, env=hub.env(str(home)), capture_output=True, text=True, timeout=300)


def the_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a command that ended with an error."""
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr[-3000:]
    (line,) = [line for line in done.stderr.splitlines() if "Error: " in line]
    return line[line.index("Error: ") :]


def evaluate(hub: HubServer, tmp_path: Path, home: str) -> subprocess.CompletedProcess[str]:
    words = ("--model_name_or_path", _MODEL, "--dataset_name", _PROBLEMS, "--max_records", 3)
    return call(
        hub, tmp_path / home, "evaluate", *words, "--max_completion_length", 8, "--output_dir", tmp_path / "out"
    )


def test_a_download_goes_on_where_it_broke_off(hub, faulty, tmp_path):
    faulty(".safetensors", Fault(), 2)
    hub.requests.clear()
    done = evaluate(hub, tmp_path, "one")
    assert done.returncode == 0, done.stderr[-3000:]
    assert sum("GET" in line and ".safetensors" in line for line in hub.requests) == 2
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["num_records"] == 3


def test_a_download_that_always_breaks_off_is_one_line_and_the_same_command_goes_on(hub, faulty, tmp_path):
    faulty(".safetensors", Fault())
    line = the_line(evaluate(hub, tmp_path, "one"))
    assert line.startswith(f"Error: --model_name_or_path '{_MODEL}': there is no such folder, and the Hub "), line
    assert "peer closed connection" in line and "Run the same command again" in line
    assert not (tmp_path / "out").exists()
    hub.fault = lambda _request: None
    assert evaluate(hub, tmp_path, "one").returncode == 0


@pytest.mark.parametrize("part, what", [("tiny/resolve", "--model_name_or_path"), ("problems/resolve", _PROBLEMS)])
def test_a_hub_that_is_busy_is_one_line(hub, faulty, tmp_path, part, what):
    faulty(part, Fault(429, {"Retry-After": "0"}))
    line = the_line(evaluate(hub, tmp_path, "one"))
    assert what in line and "HTTP 429" in line, line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part, fault", [("PUT /lfs", Fault(503)), ("/commit/", Fault())], ids=["weights", "cut"])
def test_a_failed_push_leaves_a_finished_model_that_the_same_command_pushes(hub, faulty, tmp_path, part, fault):
    model, out = hub.root.parent / "model", tmp_path / "out"
    name = f"tester/pushed-{fault.status}-{len(part)}"
    words = ["sft", "--model_name_or_path", model, "--dataset_name", hub.root.parent / "prepared", "--output_dir", out]
    words += ["--max_steps", 2, "--max_test_records", 4, "--eval_max_completion_length", 8, "--push_to_hub", "true"]
    words += ["--hub_model_id", name, "--eval_strategy", "no", "--bf16", "false", "--report_to", "none"]
    faulty(part, fault)
    line = the_line(call(hub, tmp_path / "home", *words))
    assert line.startswith(f"Error: {out} is finished, but was not pushed to {name}: "), line
    assert line.endswith("The same command pushes it.")
    assert (out / "evaluation" / "evaluation.json").is_file()
    weights = (out / "model.safetensors").read_bytes()
    hub.fault = lambda _request: None
    again = call(hub, tmp_path / "home", *words)
    assert again.returncode == 0 and "was pushed to" in again.stdout, again.stderr[-3000:]
    assert hub.files(name)["model.safetensors"] == weights == (out / "model.safetensors").read_bytes()


def test_a_hub_that_is_down_stops_a_run_before_it_trains(hub, faulty, tmp_path):
    faulty("repos/create", Fault(503))
    model, out = hub.root.parent / "model", tmp_path / "out"
    words = ["sft", "--model_name_or_path", model, "--dataset_name", hub.root.parent / "prepared", "--output_dir", out]
    line = the_line(call(hub, tmp_path / "home", *words, "--max_steps", 2, "--push_to_hub", "true"))
    assert "503" in line, line
    assert not list(out.glob("checkpoint-*"))
