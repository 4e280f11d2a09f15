"""Resuming a run that was stopped: from which checkpoint, only under the same settings, and not if it is finished."""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from hf_reason._files import digest, write_json_atomically
from hf_reason._private import is_place, is_secret, without_secrets
from hf_reason.trainers.resuming import last_checkpoint, step_of

RUN_FILE = "run.json"
FINISHED = "finished_at_step"
# What a record is trained on.
_COMPARED = ("context", "task", "steps", "answer", "domain")
_CHUNK = 1000  # records that are read together

# Fields of TRL and transformers that may change when a run is resumed: how long it trains, what is logged, saved,
# evaluated and pushed, and where it runs. The project's own fields say it themselves (`option(resumable=True)`).
_MAY_CHANGE = """
    output_dir max_steps num_train_epochs lr_scheduler_kwargs resume_from_checkpoint ignore_data_skip
    restore_callback_states_from_checkpoint do_train do_eval do_predict debug skip_memory_metrics
    logging_strategy logging_steps logging_first_step logging_nan_inf_filter log_on_each_node log_level
    log_level_replica disable_tqdm report_to run_name project trackio_space_id trackio_bucket_id
    trackio_static_space_id include_num_input_tokens_seen
    eval_strategy eval_steps eval_delay eval_on_start eval_do_concat_batches eval_use_gather_object
    eval_accumulation_steps eval_packing per_device_eval_batch_size prediction_loss_only include_for_metrics
    batch_eval_metrics bf16_full_eval fp16_full_eval load_best_model_at_end metric_for_best_model greater_is_better
    save_only_model save_strategy save_steps save_on_each_node save_total_limit enable_jit_checkpoint
    push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision
    use_cpu local_rank ddp_backend ddp_timeout dataloader_num_workers dataloader_pin_memory
    dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order
    dataloader_drop_last dataset_num_proc
"""
MAY_CHANGE = frozenset(_MAY_CHANGE.split())


def may_change(item: Any) -> bool:
    """Whether a field of an argument class may change when a run is resumed."""
    return bool(item.metadata.get("resumable", item.name in MAY_CHANGE))


def _recorded(value: Any) -> Any:
    """A value as `run.json` keeps it: places by their last part and a hash, so that another one is noticed."""
    if isinstance(value, dict):
        return {key: _recorded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_recorded(item) for item in value]
    if not is_place(value):
        return value
    name = "" if "://" in value else os.path.basename(os.path.normpath(value))
    return f"{name}#{digest(value if '://' in value else os.path.normpath(value))}"


def _settings(groups: Iterable[Any]) -> dict[str, str]:
    """What shapes the training, as JSON texts by name."""
    found = {}
    for group in groups:
        for item in fields(group):
            if item.init and not may_change(item) and not is_secret(item.name):
                value = getattr(group, item.name, None)
                if isinstance(value, str | int | float | bool | list | dict | None):
                    value = _recorded(without_secrets(value))
                    found[item.name] = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return found


def _read(output_dir: str) -> dict[str, Any]:
    """`run.json`; empty if there is none. That of version 0.1 has the settings alone."""
    try:
        found = json.loads(Path(output_dir, RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return found if "settings" in found else {"settings": {name: _as_now(value) for name, value in found.items()}}


def _as_now(text: str) -> str:
    """A setting of version 0.1, which kept places as they are."""
    return json.dumps(_recorded(json.loads(text)), ensure_ascii=False, sort_keys=True)


def same_settings_or_refuse(args: Any, *groups: Any) -> None:
    """Keep a run's settings in `run.json`, and refuse to resume it under other ones.

    Args:
        args: The training arguments (for the output folder and the main process).
        *groups: The dataclasses with all arguments of the command, the training arguments among them.

    Raises:
        ValueError: if the output folder holds a run whose settings differ in what shapes the training.
    """
    path = Path(args.output_dir) / RUN_FILE
    now = _settings(groups)
    with args.main_process_first(desc="reading the settings"):
        if path.is_file() and (last_checkpoint(args.output_dir) or is_finished(args.output_dir)):
            before = _read(args.output_dir)["settings"]
            changed = [
                f"{name}: {before[name]} -> {now[name]}"
                for name in sorted(before.keys() & now.keys())
                if before[name] != now[name]
            ]
            if changed:
                raise ValueError(
                    f"{args.output_dir} holds a run with other settings ({'; '.join(changed[:5])}). Choose another "
                    "output_dir, or remove this one to start anew."
                )
        elif args.process_index == 0:
            # A run that failed before its first checkpoint has nothing to keep, least of all a tokenizer of its data.
            if path.is_file():
                shutil.rmtree(path.parent / "tokenizer", ignore_errors=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json_atomically(path, {"settings": now})


def same_records_or_refuse(args: Any, records: Any, templates: Mapping[str, str] | None = None) -> None:
    """Refuse to resume a run on other records than it began with, and say if the number of processes is another one.

    Args:
        args: The training arguments.
        records: The training records; their texts and domains are compared, in their order.
        templates: Template of each domain, which are part of the texts.

    Raises:
        ValueError: if the output folder holds a checkpoint of a run on other records.
    """
    output, fields = str(args.output_dir), [name for name in _COMPARED if name in records.column_names]
    now = {
        # version 0.2.0 compared these alone
        "records": digest(*records["id"]),
        "content": digest(
            *(_text([rows[name] for name in fields]) for rows in records.iter(_CHUNK)), _text(dict(templates or {}))
        ),
        "world_size": args.world_size,
    }
    with args.main_process_first(desc="comparing the records"):
        before = _read(output)
        if last_checkpoint(output) is None:
            if args.process_index == 0:
                mark(output, **now)
            return
        what = {
            "records": "the data was made anew",
            "content": "the ids are the same, but the steps, domains or instruction templates are others",
        }
        for name, cause in what.items():
            if before.get(name, now[name]) != now[name]:
                raise ValueError(
                    f"{output} holds a run that began with other training records: {cause}. Choose another "
                    "output_dir, or remove this one to start anew."
                )
        if args.process_index == 0 and before.get("world_size", args.world_size) != args.world_size:
            print(
                f"Note: the run began with {before['world_size']} processes and is resumed with {args.world_size}: it "
                "reads the records in another order from here.",
                file=sys.stderr,
            )


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def is_finished(output_dir: str) -> bool:
    """Whether a run was trained to its end, and evaluated if there are test records."""
    if FINISHED in _read(output_dir):
        return True
    # a run of version 0.1, which wrote the settings alone
    run = Path(output_dir, RUN_FILE)
    old = run.is_file() and "settings" not in json.loads(run.read_text(encoding="utf-8"))
    return (old or not run.is_file()) and Path(output_dir, "evaluation", "evaluation.json").is_file()


def mark(output_dir: str, **values: Any) -> None:
    """Note something about the run in `run.json`."""
    write_json_atomically(Path(output_dir, RUN_FILE), {"settings": {}, **_read(output_dir), **values})


def was_pushed(output_dir: str) -> bool:
    """Whether a finished run has been pushed."""
    return bool(_read(output_dir).get("pushed"))


def refuse_without_weights(output_dir: str) -> None:
    """Refuse a finished run whose weights are gone.

    Raises:
        ValueError: naming the files that are missing.
    """
    missing = _missing_weights(Path(output_dir))
    if missing:
        raise ValueError(
            f"{output_dir} is finished, but its weights are gone: there is no {', '.join(missing)}. Copy them back, "
            "or remove the folder to train anew."
        )


def _missing_weights(folder: Path) -> list[str]:
    for index in folder.glob("*.index.json"):
        parts = sorted(set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values()))
        return [name for name in parts if not (folder / name).is_file()]
    found = [*folder.glob("*.safetensors"), *folder.glob("*model*.bin")]
    return [] if found else ["model.safetensors or adapter_model.safetensors"]


def refuse_more(args: Any) -> None:
    """Refuse to train a finished run longer than it was trained.

    Raises:
        ValueError: if more steps or epochs are asked for than the run was finished with.
    """
    output, found = str(args.output_dir), _read(str(args.output_dir))
    step = found.get(FINISHED, step_of(Path(output)))
    wanted = None
    if step is not None and args.max_steps > max(step, found.get("max_steps", 0)):
        wanted = str(args.max_steps)
    elif args.max_steps <= 0 and args.num_train_epochs > found.get("num_train_epochs", float("inf")):
        wanted = f"{args.num_train_epochs:g} epochs instead of {found['num_train_epochs']:g}"
    if wanted:
        raise ValueError(
            f"{output} finished at step {step}, you asked for {wanted}. Remove the folder to train anew, or choose "
            f"another output_dir with model_name_or_path {output} to train the finished model further."
        )


def mark_finished(args: Any, step: int) -> None:
    """Note that the run is finished, and with which length."""
    length = {"max_steps": args.max_steps} if args.max_steps > 0 else {"num_train_epochs": args.num_train_epochs}
    mark(str(args.output_dir), **{FINISHED: step}, **length)
