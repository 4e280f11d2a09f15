"""Which command lines start processes, and what is started."""

import argparse
import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from hf_reason.cli import launcher
from hf_reason.cli.main import main
from hf_reason.cli.parsing.commands import COMMANDS
from hf_reason.cli.parsing.launch_plan import LAUNCHED, Launch, default_config, is_launched, plan, split_arguments

SFT = COMMANDS["sft"]


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch, tmp_path):
    """No launcher around the tests, and no file of `accelerate config`."""
    for name in list(os.environ):
        if name.startswith(("ACCELERATE_", "MASTER_", "HF_REASON_")) or name in ("WORLD_SIZE", "LOCAL_RANK", "RANK"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))


@pytest.fixture
def started(monkeypatch):
    """What is started in place of processes: `accelerate`, `torchrun` or `here` -> its command line."""
    found: dict[str, list[str]] = {}

    def accelerate(options: argparse.Namespace) -> None:
        found["accelerate"] = [options.training_script, *options.training_script_args]
        found["options"] = options

    def torchrun(options: argparse.Namespace) -> None:
        found["torchrun"] = [options.training_script, *options.training_script_args]
        found["options"] = options
        found["mark"] = os.environ[LAUNCHED]

    monkeypatch.setattr("accelerate.commands.launch.launch_command", accelerate)
    monkeypatch.setattr("torch.distributed.run.run", torchrun)
    here = SimpleNamespace(main=lambda argv: found.update(here=argv))
    for module in ("main", "launcher"):
        monkeypatch.setattr(f"hf_reason.cli.{module}.module_of", lambda command: here)
    return found


@pytest.fixture
def gpus(monkeypatch):
    def set_up(count: int) -> None:
        monkeypatch.setattr("torch.accelerator.is_available", lambda: count > 0)
        monkeypatch.setattr("torch.accelerator.device_count", lambda: count)

    return set_up


def test_the_launchers_arguments_are_told_apart() -> None:
    words = ["--config", "X.yaml", "--num_processes", "4", "--max_steps", "3", "--multi-gpu", "--config_file=a.yaml"]
    options, own = split_arguments(SFT, [*words, "--gradient_accumulation_steps", "2", "--no_load_best_model_at_end"])
    assert options == ["--num_processes", "4", "--multi-gpu", "--config_file=a.yaml"]
    own_words = ["--config", "X.yaml", "--max_steps", "3", "--gradient_accumulation_steps", "2"]
    assert own == [*own_words, "--no_load_best_model_at_end"], "an argument that both have is the command's"


def test_a_plain_command_runs_in_this_process(started) -> None:
    assert main(["sft", "--max_steps", "3"]) == 0
    assert started == {"here": ["--max_steps", "3"]}
    assert main(["ask", "--num_processes", "2"]) == 0, "ask reports it: it has no processes"
    assert started["here"] == ["--num_processes", "2"]


def test_processes_on_gpus_go_through_accelerate(started, gpus) -> None:
    gpus(4)
    assert main(["sft", "--config", "X.yaml", "--num_processes", "4", "--max_steps", "3"]) == 0
    words = ["hf_reason.cli", "sft", "--config", "X.yaml", "--max_steps", "3", "--expected_world_size", "4"]
    assert started["accelerate"] == words
    options = started["options"]
    assert options.module and options.num_processes == 4 and options.mixed_precision == "no"
    assert options.num_machines == 1 and options.dynamo_backend == "no", "or the launcher warns about its choices"


@pytest.mark.parametrize("name", ["ddp", "zero2_offload", "zero3", "fsdp2"])
@pytest.mark.parametrize("option", ["--accelerate_config", "--accelerate-config"])
def test_named_configurations_are_shipped(name, option, started, gpus) -> None:
    gpus(2)
    assert main(["distill", option, name, "--num_processes", "2"]) == 0
    path = started["options"].config_file
    assert path.endswith(f"hf_reason/cli/accelerate/{name}.yaml") and os.path.isfile(path)
    assert started["options"].mixed_precision is None, "the file says it"


def test_processes_on_the_cpu_go_through_torchrun(started, gpus) -> None:
    gpus(0)
    assert main(["sft", "--num_processes", "3", "--max_steps", "3", "--accelerate_config", "ddp"]) == 0
    words = ["sft", "--max_steps", "3", "--expected_world_size", "3", "--use_cpu", "true"]
    assert started["torchrun"] == ["hf_reason.cli", *words]
    options = started["options"]
    assert options.module and options.standalone and options.nproc_per_node == "3"
    assert started["mark"] == "hf-reason" and LAUNCHED not in os.environ
    assert main(["evaluate", "--num_processes", "2", "--use_cpu", "true", "--model_name_or_path", "m"]) == 0
    assert started["torchrun"][1:] == [
        *("evaluate", "--use_cpu", "true", "--model_name_or_path", "m", "--expected_world_size", "2")
    ]


def test_use_cpu_keeps_a_machine_with_gpus_off_accelerate(started, gpus, tmp_path) -> None:
    gpus(8)
    assert main(["sft", "--num_processes", "2", "--use_cpu"]) == 0
    assert "torchrun" in started and "accelerate" not in started
    started.clear()
    (tmp_path / "x.yaml").write_text("use_cpu: true\nnum_processes: 2\n")
    assert main(["sft", "--config", str(tmp_path / "x.yaml")]) == 0
    assert started["options"].nproc_per_node == "2", "the YAML may hold the launcher's arguments"


@pytest.mark.parametrize("count", ["0", "-2"])
def test_a_count_of_no_processes_is_refused(count, started, gpus, capsys) -> None:
    for accelerators in (0, 2):
        gpus(accelerators)
        assert main(["sft", "--num_processes", count]) == 2 and started == {}
        assert capsys.readouterr().err == f"Error: --num_processes must be at least 1, got {count}.\n"


def test_one_process_on_the_cpu_stays_here(started, gpus) -> None:
    gpus(0)
    assert main(["sft", "--num_processes", "1", "--max_steps", "3"]) == 0
    assert started == {"here": ["--max_steps", "3"]}


@pytest.mark.parametrize(
    ("words", "count", "message"),
    [
        (["--num_processes", "3"], 2, "this machine has 2 accelerator(s)"),
        (["--num_processes", "2", "--accelerate_config", "zero3"], 0, "need accelerators, and there is none"),
        (["--num_processes", "2", "--accelerate_config", "fsdp2"], 0, "need accelerators, and there is none"),
        (["--num_processes", "2", "--dynamo_backend", "inductor"], 0, "--dynamo_backend needs an accelerator"),
        (["--num_processes", "2", "--num_machines", "2"], 0, "Use torchrun for several"),
        (["--accelerate_config", "zero9"], 0, "give one of ddp, fsdp2, zero2_offload, zero3, or a file"),
        (["--config_file", "nowhere.yaml"], 0, "--config_file nowhere.yaml: there is no such file"),
        (["--num_processes", "two"], 0, "accelerate launch: argument --num_processes"),
    ],
)
def test_launches_that_cannot_be_are_one_line(words, count, message, started, gpus, capsys) -> None:
    gpus(count)
    assert main(["sft", *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.startswith("Error: ") and err.count("\n") == 1
    assert not started


def test_under_a_launcher_nothing_is_launched_again(started, monkeypatch, capsys, tmp_path) -> None:
    for name in ("WORLD_SIZE", "ACCELERATE_MIXED_PRECISION", LAUNCHED):
        with monkeypatch.context() as patch:
            patch.setenv(name, "2")
            assert is_launched(os.environ)
            assert main(["sft", "--max_steps", "3"]) == 0
            assert started.pop("here") == ["--max_steps", "3"]
            assert main(["sft", "--num_processes", "2"]) == 2
            assert "--num_processes belongs to the launcher that started this process" in capsys.readouterr().err
            (tmp_path / "x.yaml").write_text("num_processes: 2\n")
            assert plan(SFT, ["--config", str(tmp_path / "x.yaml")]) is None


def test_the_file_of_accelerate_config_starts_its_launcher(started, gpus, tmp_path) -> None:
    folder = tmp_path / "home" / "accelerate"
    folder.mkdir(parents=True)
    (folder / "default_config.yaml").write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_processes: 2\nnum_machines: 1\n"
        "mixed_precision: bf16\nuse_cpu: false\nmachine_rank: 0\n"
    )
    assert default_config() == str(folder / "default_config.yaml")
    gpus(2)
    assert plan(SFT, ["--max_steps", "3"]) == Launch(SFT, ["--max_steps", "3"], [])
    gpus(0)
    assert main(["sft", "--max_steps", "3"]) == 0
    assert started == {"here": ["--max_steps", "3"]}, "a file for GPUs says nothing about a run on the CPU"


def test_torchs_launcher_leaves_the_words_to_the_command(started, gpus, monkeypatch) -> None:
    gpus(0)
    seen = []

    def run(options: argparse.Namespace) -> None:
        seen.extend(logging.getLogger(f"torch.distributed.elastic.{name}").level for name in names)

    names = ("multiprocessing.api", "agent.server.api")
    monkeypatch.setattr("torch.distributed.run.run", run)
    before = [logging.getLogger(f"torch.distributed.elastic.{name}").level for name in names]
    assert main(["sft", "--num_processes", "2"]) == 0
    assert seen == [logging.CRITICAL, logging.CRITICAL], "quiet while the processes run"
    assert [logging.getLogger(f"torch.distributed.elastic.{name}").level for name in names] == before


def test_exit_codes_of_processes(monkeypatch) -> None:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    def failed(code: int):
        failure = SimpleNamespace(exitcode=code, local_rank=0, pid=1, timestamp=0, message="", timestamp_isoformat=str)
        error = ChildFailedError.__new__(ChildFailedError)
        error.name, error.failures = "run", {0: failure}
        error.get_first_failure = lambda: (0, failure)
        return error

    def raising(error: BaseException):
        def start() -> None:
            raise error

        return start

    assert launcher._waited(lambda: None) == 0
    assert launcher._waited(raising(failed(2))) == 2
    assert launcher._waited(raising(failed(3))) == 3
    assert launcher._waited(raising(subprocess.CalledProcessError(3, "x"))) == 3
    assert launcher._waited(raising(subprocess.CalledProcessError(-9, "x"))) == 137
    assert launcher._waited(raising(SignalException("stop", 2))) == 130  # type: ignore[arg-type]
    assert launcher._waited(raising(KeyboardInterrupt())) == 130


@pytest.mark.timeout(180)
def test_two_real_processes_end_with_one_line_and_the_commands_code(tmp_path) -> None:
    command = [sys.executable, "-m", "hf_reason.cli", "evaluate", "--num_processes", "2"]
    words = ["--model_name_or_path", "./nowhere", "--use_cpu", "true"]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*command, *words], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=170)
    assert done.returncode == 2, done.stderr[-3000:]
    assert done.stderr.count("Error: ./nowhere: there is no such folder") == 1
    assert "Traceback" not in done.stderr
