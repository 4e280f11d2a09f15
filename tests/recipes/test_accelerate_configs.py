"""recipes/accelerate: every key is known to the installed accelerate, and the launcher hands on what a file says."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import yaml

CONFIGS = Path(__file__).parents[2] / "recipes" / "accelerate"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
# blocks of the file whose keys the launcher copies to its own options, with the prefix it puts before them
BLOCKS = {"deepspeed_config": "", "fsdp_config": "fsdp_"}


def launch_options(name: str, *arguments: str) -> tuple[argparse.Namespace, Any]:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    config = str(CONFIGS / f"{name}.yaml")
    options = launch_command_parser().parse_args(["--config_file", config, *arguments, "script.py"])
    options, defaults, _ = _validate_launch_command(options)
    return options, defaults


def launch_environment(name: str, processes: int, *arguments: str) -> dict[str, str]:
    """What the launcher would export, without starting anything (and without DeepSpeed installed)."""
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    options, defaults = launch_options(name, "--num_processes", str(processes), "--main_process_port", "0", *arguments)
    if options.use_deepspeed:
        options.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        _, env = prepare_deepspeed_cmd_env(options)
    else:
        env = prepare_multi_gpu_env(options)
    assert options.nproc_per_node == str(processes)
    return env


def test_the_four_ways_are_there() -> None:
    assert NAMES == ["ddp", "fsdp2", "zero2_offload", "zero3"]


@pytest.mark.parametrize("name", NAMES)
def test_config_loads_and_every_key_is_known(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    path = CONFIGS / f"{name}.yaml"
    config = load_config_from_file(str(path))
    assert config.mixed_precision == "bf16" and config.num_machines == 1 and not config.use_cpu
    known = {action.dest for action in launch_command_parser()._actions}
    for block, prefix in BLOCKS.items():
        for key in yaml.safe_load(path.read_text(encoding="utf-8")).get(block, {}):
            assert (key if key.startswith(prefix) else prefix + key) in known, f"{block}.{key}"


@pytest.mark.parametrize("name", NAMES)
def test_header_has_the_launch_command_and_the_number_must_be_said(name: str) -> None:
    text = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
    assert f"accelerate launch --config_file recipes/accelerate/{name}.yaml --num_processes" in text
    with pytest.raises(ValueError, match="num_processes"):
        launch_options(name)


@pytest.mark.parametrize("processes", [1, 4, 8])
def test_ddp(processes: int) -> None:
    env = launch_environment("ddp", processes)
    assert env["ACCELERATE_MIXED_PRECISION"] == "bf16"
    assert "ACCELERATE_USE_FSDP" not in env and "ACCELERATE_USE_DEEPSPEED" not in env


@pytest.mark.parametrize("processes", [1, 8])
def test_zero2_moves_the_optimizer_and_does_not_pretend_to_move_weights(processes: int) -> None:
    env = launch_environment("zero2_offload", processes)
    assert env["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == "2"
    assert env["ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE"] == "cpu"
    assert "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE" not in env
    # the trainer's own settings decide; a number here would contradict them and stop the run
    assert "ACCELERATE_GRADIENT_ACCUMULATION_STEPS" not in env and "ACCELERATE_GRADIENT_CLIPPING" not in env


def test_zero3_saves_whole_weights_and_offload_can_be_asked_for() -> None:
    env = launch_environment("zero3", 8, "--offload_param_device", "cpu", "--offload_optimizer_device", "cpu")
    assert env["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == "3"
    assert env["ACCELERATE_DEEPSPEED_ZERO3_INIT"] == "true"
    assert env["ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL"] == "true"
    assert env["ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE"] == "cpu"
    assert env["ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE"] == "cpu"


def test_fsdp2_is_version_2_without_keys_of_version_1(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate import FullyShardedDataParallelPlugin

    env = launch_environment("fsdp2", 8)
    assert env["ACCELERATE_USE_FSDP"] == "true" and env["FSDP_VERSION"] == "2"
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
    assert "FULL_STATE_DICT" in str(plugin.state_dict_type), "else Trainer.save_model writes no weights"
    keys = yaml.safe_load((CONFIGS / "fsdp2.yaml").read_text(encoding="utf-8"))["fsdp_config"]
    version_1 = {"sharding_strategy", "backward_prefetch", "forward_prefetch", "use_orig_params", "sync_module_states"}
    assert not {key.removeprefix("fsdp_") for key in keys} & version_1
