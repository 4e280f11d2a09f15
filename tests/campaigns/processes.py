"""Training commands on two processes of a CPU, data parallel and sharded, beside the same command on one.

FSDP2 and DeepSpeed are for accelerators, and `--num_processes` refuses them without one; here the processes are
started with the variables that a launcher exports. accelerate turns FSDP on the CPU into plain data parallel, so it is
told that these are processes for FSDP: everything from there on is its own code, over gloo.
"""

import contextlib
import math
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tiny
from kill_cases import World
from kills import Forge

WAYS = ("ddp", "fsdp2", "zero2", "zero3")
_FSDP = """
from accelerate.state import AcceleratorState, DistributedType, PartialState
init = AcceleratorState.__init__
def with_fsdp(self, *arguments, fsdp_plugin=None, **options):
    init(self, *arguments, fsdp_plugin=fsdp_plugin, **options)
    if fsdp_plugin is not None:
        self.fsdp_plugin, self.distributed_type = fsdp_plugin, DistributedType.FSDP
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP
AcceleratorState.__init__ = with_fsdp
"""
# Without an accelerator nobody tells DeepSpeed, before the model is cut, how many processes there are.
_ZERO = """
import deepspeed
deepspeed.init_distributed("gloo", verbose=False)
"""
# An untrained model writes nothing that ends, and would draw other words on two processes than on one.
_WRITES = """
from hf_reason.trainers import StepGRPOTrainer
TEXTS = ("<think>\\n步骤1:3+4=7\\n步骤2:7-2=5\\n</think>\\n\\n5", "<think>\\n步骤1:3+4=8\\n</think>\\n\\n6")
def generate(self, prompts, *args, **kwargs):
    first = self.accelerator.process_index * len(prompts)
    ids = [self._tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    end = [self._tokenizer.eos_token_id]
    return [ids[row % 2] + end for row in range(first, first + len(prompts))], None
StepGRPOTrainer._generate_single_turn = generate
"""
_STEPS = {
    "max_steps": 4,
    "save_steps": 2,
    "max_test_records": 2,
    "eval_max_completion_length": 4,
    "train_sampling_strategy": "sequential",
}


@dataclass(frozen=True)
class Training:
    """A training command.

    Attributes:
        command: Its name.
        settings: Keys of its YAML.
        figures: What is compared between one process and two, at each step.
        before: Python that runs first.
    """

    command: str
    settings: Mapping[str, Any]
    figures: Sequence[str] = ("loss",)
    before: str = ""


@dataclass
class Outcome:
    """How a run ended: code, the last line it said, and the figures of its steps."""

    code: int | None
    said: str
    curves: dict[str, dict[int, float]] = field(default_factory=dict)
    log: str = ""

    def differs(self, other: "Outcome") -> float:
        """The largest difference of a figure at a step; infinite if the steps are not the same."""
        largest = 0.0
        for name, curve in self.curves.items():
            if not curve or curve.keys() != other.curves[name].keys():
                return math.inf
            largest = max(largest, *(abs(value - other.curves[name][step]) for step, value in curve.items()))
        return largest


def trainings(world: World) -> dict[str, Training]:
    """Every training command, with what changes how its batches are made or its loss is normalised."""
    data = {"dataset_name": world.data}
    scratch = {**data, "model_type": "qwen2", "model_config": tiny.TINY_SIZES, "eval_strategy": "no"}
    tuned = {**data, "model_name_or_path": world.base, "eval_strategy": "no"}
    lora = {"lora_dropout": 0.0, "lora_target_modules": ["q_proj", "v_proj"]}
    weights = {"thought_weight": 0.5, "answer_weight": 2.0, "step_weighting": "step"}
    routed = {"calibration_records": 4, "budget": 0.5, "loar_window": 16, "eval_max_completion_length": 8}
    sampled = {"num_generations": 4, "max_completion_length": 24, "instructions": "default"}
    grown = {**tuned, **lora, "dataset_name": world.other, "old_dataset": world.data}
    taught = {**tuned, "path_weight": 1.0}
    packed = {**tuned, "packing": True, "max_length": 256, "max_steps": 2, "attn_implementation": "eager"}
    live, rewards = {"teacher_model_name_or_path": world.teacher}, ("loss", "reward", "steps/right", "grad_norm")
    parts = ("loss", "kl", "ce", "path")
    return {
        "sft": Training("sft", {**scratch, "vocab_size": 400}),
        "sft, weights of steps and answers": Training("sft", {**tuned, **weights}),
        "sft, packed": Training("sft", packed),
        "sft, a LoRA": Training("sft", {**tuned, **lora, "use_peft": True}),
        "distill, live": Training("distill", {**taught, **live}, parts),
        "distill, cached": Training("distill", {**taught, "teacher_model_name_or_path": world.cache}, parts),
        "lora": Training("lora", {**tuned, **lora, "reasoner_ratio": 0.5, "ranking_records": 4}),
        "lora, layers by number": Training("lora", {**tuned, **lora, "reasoner_layers": "1"}),
        "loar, with tasks": Training("loar", {**tuned, **routed, "task_names": ["math"], "task_dropout": 0.0}),
        "loar, not calibrated": Training("loar", {**tuned, **routed, "calibration_records": 0}),
        "grpo": Training("grpo", {**data, **sampled, "model_name_or_path": world.base}, rewards, _WRITES),
        "grpo, with a teacher": Training(
            "grpo",
            {**data, **sampled, "model_name_or_path": world.base, "teacher_kl_weight": 0.5, **live},
            (*rewards, "teacher_kl"),
            _WRITES,
        ),
        "continual, a LoRA": Training("continual", grown),
        "continual, all weights": Training("continual", {**grown, "adapter": "none"}),
    }


@dataclass
class Processes:
    """Runs trainings in a folder."""

    forge: Forge
    folder: Path

    def run(self, name: str, training: Training, way: str) -> Outcome:
        """Train on one process (`way` is `one`) or on two; the global batch of four is the same.

        The steps are fewer than an epoch has: accelerate fills the last batch of an epoch with its first records.
        """
        place = self.folder / f"{name} {way}".replace(",", "").replace(" ", "-")
        place.mkdir()
        count = 1 if way == "one" else 2
        settings = {**_STEPS, "per_device_train_batch_size": 4 // count, **training.settings}
        if way.startswith("zero"):
            settings["deepspeed"] = _deepspeed(int(way[-1]))
        words = tiny.recipe_arguments(place, "out", expected_world_size=count, **settings)
        if "num_generations" in settings:  # GRPO makes its own rows
            lines = Path(words[1]).read_text("utf-8").splitlines(True)
            Path(words[1]).write_text("".join(line for line in lines if not line.startswith("max_length")), "utf-8")
        before, env = training.before, {"DS_ACCELERATOR": "cpu"}
        if way == "fsdp2":
            before, env = _FSDP + before, env | _fsdp_environment()
        if way.startswith("zero"):
            before = _ZERO + before
        port = _free_port()
        started = [
            self.forge.start(
                [training.command, *words],
                place,
                log=f"log-{rank}.txt",
                env=env | (_rank(rank, count, port) if count > 1 else {}),
                before=before,
            )
            for rank in range(count)
        ]
        code = self._ended(started)
        said = [(place / f"log-{rank}.txt").read_text("utf-8") for rank in range(count)]
        lines = [line for text in said for line in text.strip().splitlines() if line.startswith("Error: ")]
        last = said[0].strip().splitlines()[-1:] if code else []
        outcome = Outcome(code, (lines or last or [""])[0], log="\n".join(text[-3000:] for text in said))
        if code == 0:
            outcome.curves = {name: tiny.logged_curve(place / "out", name) for name in training.figures}
        return outcome

    def _ended(self, started: Sequence[int], seconds: float = 240) -> int | None:
        """The exit code of the first process that failed; the others are then stopped, as a launcher does."""
        deadline, codes = time.monotonic() + seconds, {}
        while len(codes) < len(started) and time.monotonic() < deadline:
            for pid in started:
                if pid not in codes and (code := self.forge.ask("code", pid)) is not None:
                    codes[pid] = code
            if any(codes.values()):
                break
            time.sleep(0.05)
        for pid in started:
            if pid not in codes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
        self.forge.assert_nobody_left()
        failed = [code for code in codes.values() if code]
        return failed[0] if failed else (0 if len(codes) == len(started) else None)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _rank(rank: int, count: int, port: int) -> dict[str, str]:
    """What a launcher says to a process; all of one launch meet at one port."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    return {"MASTER_ADDR": "127.0.0.1", **{name: str(number) for name, number in numbers.items()}}


def _fsdp_environment() -> dict[str, str]:
    """What accelerate's launcher exports for the shipped configuration."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    words = ["--config_file", str(tiny.RECIPES / "accelerate" / "fsdp2.yaml"), "--num_processes", "2", "script.py"]
    options, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    found = {name: value for name, value in prepare_multi_gpu_env(options).items() if "FSDP" in name}
    return {**found, "ACCELERATE_MIXED_PRECISION": "no"}


def _deepspeed(stage: int) -> dict[str, Any]:
    """No small parameter stays whole, so that a missing gather shows; sizes and clipping are the trainer's."""
    names = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    zero = {"stage": stage, "stage3_param_persistence_threshold": 0, "stage3_gather_16bit_weights_on_model_save": True}
    return {"zero_optimization": zero, "zero_allow_untested_optimizer": True, **dict.fromkeys(names, "auto")}


def table(found: Mapping[tuple[str, str], str]) -> str:
    """A Markdown table: a row for each training, a column for each way."""
    rows = list(dict.fromkeys(name for name, _ in found))
    lines = [f"| {' | '.join(('training', *WAYS))} |", "|---" * (len(WAYS) + 1) + "|"]
    lines += [f"| {' | '.join((name, *(found.get((name, way), '') for way in WAYS)))} |" for name in rows]
    return "\n".join(lines)
