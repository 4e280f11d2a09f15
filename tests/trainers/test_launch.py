"""check_world_size sees the launches that accelerate changes without a word; the launchers here are the real ones."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hf_reason.trainers.launch import LaunchError, check_world_size, find_launch_request

SCRIPT = """
import sys
from accelerate import Accelerator
from hf_reason.trainers.launch import LaunchError, check_world_size
Accelerator(cpu="--use_cpu" in sys.argv)
try:
    print("TOGETHER", check_world_size(), flush=True)
except LaunchError as error:
    sys.exit(f"REFUSED {error}")
"""
FSDP = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
num_processes: 2
num_machines: 1
fsdp_config: {fsdp_version: 2, fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP}
"""


@dataclass
class Outcome:
    code: int
    text: str


@pytest.fixture(scope="module")
def launches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """All launches at once: each spends its time importing torch."""
    folder = tmp_path_factory.mktemp("launch")
    (folder / "script.py").write_text(SCRIPT)
    (folder / "fsdp.yaml").write_text(FSDP)
    accelerate = [sys.executable, "-m", "accelerate.commands.launch"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    commands = {
        "one": [*accelerate, "--num_processes", "1", "script.py"],
        "cpu": [*accelerate, "--cpu", "--num_processes=2", "script.py"],
        "fsdp": [*accelerate, "--config_file", "fsdp.yaml", "--main_process_port", "0", "script.py"],
        "torchrun": [*torchrun, "--nproc_per_node", "2", "script.py", "--use_cpu"],
    }
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "MASTER_"))}
    env |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "home")}
    running = {
        name: subprocess.Popen(
            command, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for name, command in commands.items()
    }
    outcomes = {}
    for name, process in running.items():
        text, _ = process.communicate(timeout=120)
        outcomes[name] = Outcome(process.returncode, text)
    return outcomes


@pytest.mark.timeout(180)
def test_accelerate_launch_on_cpu_that_ran_one_process_is_refused(launches: dict[str, Outcome]) -> None:
    outcome = launches["cpu"]
    assert outcome.code != 0
    assert "REFUSED `accelerate launch` was told --num_processes 2 and started 1 process" in outcome.text
    assert "torchrun --nproc_per_node 2" in outcome.text


@pytest.mark.timeout(180)
def test_processes_that_would_each_train_alone_are_refused(launches: dict[str, Outcome]) -> None:
    outcome = launches["fsdp"]
    assert outcome.code != 0
    assert "TOGETHER" not in outcome.text
    assert "REFUSED WORLD_SIZE in the environment says 2 processes, but 1 train(s) together" in outcome.text


@pytest.mark.timeout(180)
def test_honest_launches_pass(launches: dict[str, Outcome]) -> None:
    assert launches["one"].code == 0, launches["one"].text
    assert launches["one"].text.count("TOGETHER 1") == 1
    assert launches["torchrun"].code == 0, launches["torchrun"].text
    assert launches["torchrun"].text.count("TOGETHER 2") == 2


TRACES = {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    "command",
    [
        ["python", "venv/bin/accelerate", "launch", "--cpu", "--num_processes", "3", "run.py", "--num_processes", "9"],
        ["python", "-m", "accelerate.commands.accelerate_cli", "launch", "--num_processes=3", "run.py"],
        ["python", "-m", "accelerate.commands.launch", "--num-processes", "3", "run.py"],
        ["python", "venv/bin/accelerate-launch", "--config_file", "{config}", "run.py"],
    ],
)
def test_number_is_read_from_the_launcher_not_from_the_script(command: list[str], tmp_path: Path) -> None:
    config = tmp_path / "cpu.yaml"
    config.write_text("distributed_type: MULTI_CPU\nuse_cpu: true\nnum_processes: 3\n")
    request = find_launch_request(TRACES, [word.format(config=config) for word in command])
    assert (request.processes, request.origin) == (3, "accelerate launch")


def test_no_launcher_no_request() -> None:
    python = ["python", "run.py", "accelerate", "launch", "--num_processes", "2"]
    assert find_launch_request({}, python).processes is None
    assert find_launch_request({"MASTER_PORT": "1"}, python).processes is None
    assert find_launch_request(TRACES, ["bash", "-c", "something"]).processes is None
    assert find_launch_request({"OMPI_COMM_WORLD_SIZE": "4"}).processes == 4


@pytest.fixture
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    from accelerate import PartialState

    for name in list(os.environ):
        if name.startswith(("ACCELERATE_", "MASTER_", "WORLD_SIZE")):
            monkeypatch.delenv(name)
    before = dict(PartialState._shared_state)
    PartialState._reset_state()
    yield monkeypatch
    PartialState._reset_state()
    PartialState._shared_state.update(before)


def test_expected_world_size(no_launcher: pytest.MonkeyPatch) -> None:
    from accelerate import PartialState

    assert check_world_size() == 1
    assert check_world_size(expected=1) == 1
    with pytest.raises(LaunchError, match="Build the training arguments"):
        check_world_size(expected=2)
    PartialState(cpu=True)
    with pytest.raises(LaunchError, match="expected_world_size is 2, but 1"):
        check_world_size(expected=2)


def test_too_early_is_said(no_launcher: pytest.MonkeyPatch) -> None:
    no_launcher.setenv("WORLD_SIZE", "2")
    with pytest.raises(LaunchError, match="before check_world_size"):
        check_world_size()


def test_fsdp_that_accelerate_drops_on_cpu_is_a_warning(no_launcher: pytest.MonkeyPatch) -> None:
    from accelerate import PartialState

    no_launcher.setenv("WORLD_SIZE", "1")
    PartialState(cpu=True)
    no_launcher.setenv("WORLD_SIZE", "2")
    no_launcher.setenv("ACCELERATE_USE_FSDP", "true")
    no_launcher.setitem(PartialState._shared_state, "num_processes", 2)
    with pytest.warns(UserWarning, match="plain data parallel"):
        assert check_world_size() == 2


def test_every_process_reads_the_weights_for_what_runs_the_model_before_the_training(
    no_launcher: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from accelerate import PartialState

    from hf_reason.trainers.launch import read_on_every_process, reads_on_first_alone

    PartialState(cpu=True)
    no_launcher.setenv("ACCELERATE_USE_FSDP", "true")
    no_launcher.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "True")
    assert not reads_on_first_alone()  # there is one process
    no_launcher.setitem(PartialState._shared_state, "num_processes", 2)
    assert reads_on_first_alone()
    read_on_every_process("the model is measured")
    assert not reads_on_first_alone()
    assert capsys.readouterr().out == "fsdp_cpu_ram_efficient_loading is switched off: the model is measured.\n"
    read_on_every_process("again")
    assert capsys.readouterr().out == ""
