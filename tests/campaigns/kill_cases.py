"""The commands that are killed, on tiny models and data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny
import yaml
from kills import Case
from loopback_server import LoopbackServer
from trace_files import write_jsonl

from hf_reason.data.synthetic.word_problems import generate_word_problems

# What no training writes twice the same: pickles (zip files with times) and what says when.
_STATE = ("*training_args.bin", "*optimizer.pt", "*scheduler.pt", "*rng_state*.pth")
# and the mean loss of a whole run, which transformers takes over the steps since it was resumed
_TIMES = frozenset({"train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos", "train_loss"})
# Logged by transformers and TRL at each step.
_SPEEDS = frozenset(f"{part}_{what}" for part in ("eval", "train") for what in ("runtime", "steps_per_second"))
_LOGS = frozenset({"eval_samples_per_second", "step_time", "num_tokens", "tokens_per_second", "samples_per_second"})
_TRAINED: dict[str, Any] = {
    "varies": _STATE,
    "grows": ("run.json", "trainer_state.json", "tokenizer/*"),
    "keys": _TIMES | _SPEEDS | _LOGS,
}
_LORA = {"lora_dropout": 0.0, "lora_target_modules": ["q_proj", "v_proj"]}
_STEPS = {"max_steps": 6, "save_steps": 2, "max_test_records": 2, "eval_max_completion_length": 4}


class Translator(LoopbackServer):
    """Gives the text of a request again, with a word before it that the way back takes away."""

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        text = request["messages"][-1]["content"].split("\n\n", 1)[1]
        out = f"Then: {text}" if not text.startswith("Then: ") else f"这样，{text.removeprefix('Then: ')}"
        choice = {"index": 0, "message": {"role": "assistant", "content": out}, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 9}}


@dataclass(frozen=True)
class World:
    """What the commands read: folders, a file, and the address of a server."""

    raw: str
    data: str
    other: str
    base: str
    wide: str
    teacher: str
    ending: str
    translator: str
    cache: str = ""


def make_world(folder: Path, records: Sequence[dict], tokenizer: Any, translator: str) -> World:
    """Write models and data into a folder."""
    from datasets import Dataset, DatasetDict

    rows = [
        {"question": row["context"], "reasoning": "\n".join(row["steps"]), "answer": row["answer"]}
        for row in generate_word_problems(3000)
    ]
    write_jsonl(folder / "raw.jsonl", rows)
    for name, part in (("data", records[:30]), ("other", [{**row, "domain": "finance"} for row in records[30:]])):
        splits = {"train": part[:-8], "validation": part[-8:-4], "test": part[-4:]}
        DatasetDict({split: Dataset.from_list(found) for split, found in splits.items()}).save_to_disk(folder / name)
    models = {
        "base": tiny.tiny_qwen2(tokenizer, num_attention_heads=4, num_key_value_heads=4),
        "wide": tiny.tiny_qwen2(tokenizer, hidden_size=64, intermediate_size=64),
        "teacher": tiny.tiny_qwen2(tokenizer, seed=1, hidden_size=32, num_hidden_layers=4, num_attention_heads=4),
    }
    models["ending"] = _ending(tokenizer)
    for name, model in models.items():
        tiny.save_model(folder / name, model, tokenizer)
    names = ("raw.jsonl", "data", "other", *models)
    return World(*(str(folder / name) for name in names), translator)


def _ending(tokenizer: Any) -> Any:
    """A model whose chains end after some ten tokens: the end of the turn is likelier than others everywhere."""
    import torch

    model = tiny.tiny_qwen2(tokenizer, seed=2)
    with torch.no_grad():
        model.get_input_embeddings().weight[:, 0] = 0.1
        model.get_output_embeddings().weight[tokenizer.eos_token_id, 0] = 1.1
    return model


def _yaml(**settings: Any) -> Callable[[Path], Sequence[str]]:
    """Arguments of a training: those of `tiny.recipe_arguments`, without the output folder."""

    def write(folder: Path) -> Sequence[str]:
        words = tiny.recipe_arguments(folder, "", **{**_STEPS, **settings})[:2]
        lines = Path(words[1]).read_text("utf-8").splitlines(True)
        if "num_generations" in settings:  # GRPO makes its own rows
            lines = [line for line in lines if not line.startswith("max_length")]
        Path(words[1]).write_text("".join(lines), "utf-8")
        return words

    return write


def _path(world: World) -> Callable[[Path], Sequence[str]]:
    """Arguments of `compress`: a student, pruned, recovered and quantised."""
    training = {"bf16": False, "gradient_checkpointing": False, "disable_tqdm": True, "report_to": "none"}
    steps = {"max_steps": 4, "save_steps": 2, "eval_strategy": "no", "per_device_train_batch_size": 4}
    settings = {
        "teacher_model_name_or_path": world.wide,
        "dataset_name": world.data,
        "max_records": 2,
        "max_completion_length": 4,
        "max_drop": 100,
        "use_cpu": True,
        "distill": {"student_layers": 1, "max_length": 512, **steps, **training},
        "prune": {"ratio": 0.25, "recover_steps": 4, "recover_batch_size": 2, "recover_max_length": 512},
        "quantize": {"method": "nf4"},
    }

    def write(folder: Path) -> Sequence[str]:
        (folder / "path.yaml").write_text(yaml.safe_dump(settings))
        return ["--config", "path.yaml"]

    return write


def cases(world: World) -> list[Case]:
    """All of them but the server; `distill, cached` needs `world.cache`."""
    data, base, teacher = world.data, world.base, world.teacher
    training = {"dataset_name": data, "train_sampling_strategy": "sequential"}
    tuned = {**training, "model_name_or_path": base}
    taught = {**training, "model_type": "qwen2", "model_config": tiny.TINY_SIZES, "eval_strategy": "no"}
    routed = {"calibration_records": 4, "budget": 0.5, "loar_window": 16, "eval_max_completion_length": 8}
    sampled = {"num_generations": 4, "max_completion_length": 24, "reward_funcs": ["length", "language"]}
    sampled |= {"length_buffer": 20, "step_weight": 0.0}  # an untrained model writes no steps
    evaluated = ["--dataset_name", data, "--max_completion_length", "8", "--use_cpu"]
    traces = ["--dataset_name", world.raw, "--teacher_model_name_or_path", base, "--max_completion_length", "16"]
    cached = ["--dataset_name", data, "--teacher_model_name_or_path", teacher, "--path_consistency", "true"]
    speeds = frozenset({"tokens_per_second", "seconds"})
    compressed = ["--model_name_or_path", world.wide, *evaluated, "--max_records", "2"]
    recovery = ["--ratio", "0.25", "--recover_steps", "8", "--recover_batch_size", "2", "--recover_max_length", "512"]
    return [
        Case("prepare", ["prepare", "--dataset_name", world.raw]),
        Case("prepare, 2 processes", ["prepare", "--dataset_name", world.raw, "--num_proc", "2"], by_hand=True),
        Case(
            "augment",
            ["augment", "--dataset_name", data, "--distractors", "0.5", "--step_pairs", "1", "--back_translation", "1"]
            + ["--translator_model_name_or_path", world.translator],
            varies=(".augment/*", ".lock"),
        ),
        Case(
            "generate-traces",
            ["generate-traces", *traces, "--keep", "all", "--verify_steps", "none", "--num_samples", "4", "--use_cpu"]
            + ["--temperature", "1.5", "--max_records", "6"],
            varies=(".lock",),
            grows=("samples.jsonl",),
        ),
        Case(
            "cache-teacher",
            ["cache-teacher", *cached, "--top_k", "32", "--rows_per_shard", "4", "--use_cpu", "true"],
            grows=("settings.json",),
        ),
        Case("sft", ["sft"], _yaml(**training, model_type="qwen2", model_config=tiny.TINY_SIZES), **_TRAINED),
        Case("distill, live", ["distill"], _yaml(**taught, teacher_model_name_or_path=teacher), **_TRAINED),
        Case("distill, cached", ["distill"], _yaml(**taught, teacher_model_name_or_path=world.cache), **_TRAINED),
        Case("lora", ["lora"], _yaml(**tuned, **_LORA, reasoner_ratio=0.5, ranking_records=4), **_TRAINED),
        Case("loar", ["loar"], _yaml(**tuned, **routed), **_TRAINED),
        Case(
            "grpo",
            ["grpo"],
            _yaml(dataset_name=data, model_name_or_path=world.ending, **sampled),
            **_TRAINED,
            by_hand=True,
        ),
        Case(
            "continual",
            ["continual"],
            _yaml(**{**tuned, **_LORA, "dataset_name": world.other}, old_dataset=data, max_steps=4),
            **_TRAINED,
        ),
        Case("quantize", ["quantize", *compressed, "--method", "nf4"], keys=speeds),
        Case("prune", ["prune", *compressed, *recovery], keys=speeds),
        Case("compress", ["compress"], _path(world), varies=("*.lock", *_STATE), keys=speeds | _TIMES, by_hand=True),
        Case("evaluate", ["evaluate", "--model_name_or_path", base, *evaluated, "--batch_size", "2"], keys=speeds),
    ]
