"""What to say about an argument that does not exist: its new name, the field's name for it, or the nearest one."""

import difflib
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Names of version 0.1 that were arguments of a command -> their names now; the first that the command has.
_RENAMED: dict[str, tuple[str, ...]] = {
    "input": ("dataset_name",),
    "dataset": ("dataset_name",),
    "data": ("dataset_name",),
    "model": ("model_name_or_path",),
    "teacher": ("teacher_model_name_or_path",),
    "student": ("student_model_name_or_path",),
    "tokenizer": ("tokenizer_name_or_path",),
    "teacher_tokenizer": ("teacher_tokenizer_name_or_path",),
    "k": ("top_k",),
    "teacher_top_k": ("top_k",),
    "path": ("path_consistency",),
    "limit": ("max_records",),
    "eval_records": ("max_eval_records",),
    "test_records": ("max_test_records",),
    "max_new_tokens": ("max_completion_length",),
    "eval_max_new_tokens": ("eval_max_completion_length", "max_completion_length"),
    "on_policy_max_new_tokens": ("max_completion_length",),
    "on_policy_share": ("lmbda",),
    "eval_samples": ("num_samples",),
    "num_votes": ("num_samples",),
    "distractors": ("eval_distractors",),
    "validation_share": ("validation_size",),
    "test_share": ("test_size",),
    "min_cjk_share": ("min_cjk_ratio",),
    "domain_shares": ("domain_ratios",),
    "curriculum_share": ("curriculum_ratio",),
    "reasoner_share": ("reasoner_ratio",),
    "replay_share": ("replay_ratio",),
    "anneal_share": ("anneal_ratio",),
}

# The same idea in other libraries -> its name in PEFT, TRL, transformers or accelerate.
_ELSEWHERE: dict[str, tuple[str, ...]] = {
    "lora_rank": ("lora_r",),
    "rank": ("lora_r",),
    "r": ("lora_r",),
    "alpha": ("lora_alpha",),
    "target_modules": ("lora_target_modules",),
    "lora_modules": ("lora_target_modules",),
    "lora_target": ("lora_target_modules",),
    "modules_to_save": ("lora_modules_to_save",),
    "dora": ("use_dora",),
    "lora": ("use_peft",),
    "peft": ("use_peft",),
    "qlora": ("load_in_4bit",),
    "torch_dtype": ("dtype",),
    "lr": ("learning_rate",),
    "epochs": ("num_train_epochs",),
    "num_epochs": ("num_train_epochs",),
    "steps": ("max_steps",),
    "batch_size": ("per_device_train_batch_size", "eval_generation_batch_size"),
    "train_batch_size": ("per_device_train_batch_size",),
    "eval_batch_size": ("per_device_eval_batch_size",),
    "max_seq_length": ("max_length",),
    "max_seq_len": ("max_length",),
    "cutoff_len": ("max_length",),
    "warmup_ratio": ("warmup_steps",),
    "evaluation_strategy": ("eval_strategy",),
    "output": ("output_dir",),
    "out": ("output_dir",),
    "workers": ("num_proc",),
    "num_workers": ("num_proc", "dataloader_num_workers"),
    "num_gpus": ("num_processes",),
    "gpus": ("num_processes",),
    "nproc_per_node": ("num_processes",),
    "nproc": ("num_processes", "num_proc"),
    "teacher_model": ("teacher_model_name_or_path",),
    "max_tokens": ("max_completion_length", "max_answer_tokens"),
    "use_lora": ("use_peft",),
    "finetuning_type": ("use_peft",),
    "tuner_type": ("use_peft",),
    "quantization_bit": ("load_in_4bit",),
    "quant_bits": ("load_in_4bit",),
    "flash_attn": ("attn_implementation",),
    "attn_impl": ("attn_implementation",),
    "grad_accum": ("gradient_accumulation_steps",),
    "gradient_accumulation": ("gradient_accumulation_steps",),
    "warmup": ("warmup_steps",),
    "neftune": ("neftune_noise_alpha",),
    "wandb": ("report_to",),
    "save_dir": ("output_dir",),
    "template": ("instructions",),
    "templates": ("instructions",),
    "prompt_templates": ("instructions",),
    "val_size": ("validation_size",),
    "eval_ratio": ("validation_size",),
    "test_ratio": ("test_size",),
    "dedup": ("duplicate_threshold",),
    "lang": ("languages",),
    "temp": ("temperature",),
    "prompt": ("question",),
}
_NOTES = {
    "num_votes": " (with vote: true)",
    "votes": " (with vote: true)",
    "warmup_ratio": " (a number below 1 is a fraction)",
}


def renamed_of(classes: Iterable[Any]) -> dict[str, str]:
    """Old name -> new name, of argument classes decorated with `hf_reason._renamed.renamed`."""
    return {old: new for cls in classes for old, new in getattr(cls, "__renamed__", {}).items()}


def explain_unknown(
    name: str, known: Sequence[str], renamed: Mapping[str, str] | None = None, dashes: str = "--"
) -> str:
    """One line about an argument that the command does not have.

    Args:
        name: As it was given, without dashes in front.
        known: Names of the command's arguments (and of the launcher's, if it accepts them).
        renamed: Old name -> new name, of the command's classes.
        dashes: What stands before a name; nothing in a YAML.
    """
    plain = name.replace("-", "_")
    new = (renamed or {}).get(plain) or next((n for n in _RENAMED.get(plain, ()) if n in known), None)
    if new is not None:
        return f"{dashes}{name} was renamed to {dashes}{new}{_NOTES.get(plain, '')} in version 0.2."
    near = next((n for n in _ELSEWHERE.get(plain, ()) if n in known), None)
    if near is None:
        # a misspelt name of version 0.1 leads to the new one
        old = {o: n for o, n in (renamed or {}).items() if n in known}
        old |= {o: n for o, names in _RENAMED.items() for n in names if n in known}
        found = next(iter(difflib.get_close_matches(plain, [*known, *old], n=1, cutoff=0.7)), None)
        near = found if found is None or found in known else old[found]
    if near is None:
        return f"there is no argument {dashes}{name}; --help and --help_all list what there is."
    return f"there is no argument {dashes}{name}: did you mean {dashes}{near}{_NOTES.get(plain, '')}?"


def explain_all_unknown(
    names: Sequence[str], known: Sequence[str], renamed: Mapping[str, str] | None = None, dashes: str = "--"
) -> str:
    """One line about all arguments that the command does not have; see `explain_unknown`."""
    return " ".join(explain_unknown(name, known, renamed, dashes) for name in dict.fromkeys(names))


def explain_free_words(words: Sequence[str], known: Sequence[str]) -> str:
    """One line about words of a command line that follow no argument.

    Args:
        words: They.
        known: Names of the command's arguments.
    """
    text = " ".join(words)
    name = next((n for n in _place_or_question(text) if n in known), None)
    if name is None:
        return f"{words[0]!r} belongs to no argument. Put the argument's name before it: --name {words[0]}"
    return f"{text!r} belongs to no argument: did you mean --{name} {shlex.quote(text)}?"


def _place_or_question(text: str) -> tuple[str, ...]:
    if os.path.isdir(text):
        return ("model_name_or_path", "dataset_name")
    if os.path.exists(text):
        return ("dataset_name",)
    return ("question",)
