"""Values of arguments that no command can use, refused before a library, a model or data is loaded for long."""

import difflib
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# The least value of numbers that TRL, transformers or torch would refuse late, or only by a traceback.
_AT_LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "eval_generation_batch_size": 1,
    "batch_size": 1,
    "num_proc": 1,
    "vocab_size": 1,
    "max_length": 1,
    "max_records": 1,
    "max_train_records": 1,
    "max_completion_length": 1,
    "eval_max_completion_length": 1,
    "max_answer_tokens": 1,
    "expected_world_size": 1,
    "rows_per_shard": 1,
    "lora_r": 1,
    "learning_rate": 0,
    "num_train_epochs": 0,
    "weight_decay": 0,
    "warmup_steps": 0,
    "max_grad_norm": 0,
    "dataloader_num_workers": 0,
}
# What a tracker of `--report_to` needs to be installed; the others have no extra of this project.
_TRACKERS = {"tensorboard": "hf_reason[tracking]", "trackio": "hf_reason[tracking]"}
_NAMED_AS_PACKAGE = ("wandb", "mlflow", "comet_ml", "swanlab", "dvclive", "clearml", "neptune")


def check_values(values: Mapping[str, Any], given: Iterable[str]) -> None:
    """Refuse values that cannot be used.

    Args:
        values: Name -> value of all arguments.
        given: Names of those that the user has set.

    Raises:
        ValueError: (one line) for the first of them.
    """
    given = set(given)
    for name, least in _AT_LEAST.items():
        value = values.get(name)
        if name in given and isinstance(value, int | float) and not value >= least:
            raise ValueError(f"{name} must be {f'at least {least}' if least else '0 or more'}, got {value}.")
    if "report_to" in given:
        _check_trackers(values["report_to"])
    if "model_type" in given:
        _check_model_type(str(values["model_type"]))


def _check_trackers(names: str | Sequence[str] | None) -> None:
    for name in [names] if isinstance(names, str) else names or []:
        if name in ("none", "all"):
            continue
        _check_known("report_to", name, [*_known_trackers(), "none", "all"], "tracker")
        if (name in _TRACKERS or name in _NAMED_AS_PACKAGE) and not _is_installed(name):
            extra = _TRACKERS.get(name, name)
            raise ValueError(f"--report_to {name} needs a package that is not installed: pip install '{extra}'")


def _check_model_type(name: str) -> None:
    from transformers import CONFIG_MAPPING

    import hf_reason.models.step_reasoner  # noqa: F401  registers its type

    if name not in CONFIG_MAPPING:
        _check_known("model_type", name, list(CONFIG_MAPPING.keys()), "type of model in transformers")


def _check_known(argument: str, name: str, known: Sequence[str], kind: str) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    few = f"there are {', '.join(known)}." if len(known) < 30 else "qwen2, llama and step_reasoner are some."
    hint = f"did you mean {near[0]}?" if near else few
    raise ValueError(f"--{argument} {name}: there is no such {kind}; {hint}")


def _known_trackers() -> Sequence[str]:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    return list(INTEGRATION_TO_CALLBACK)


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
