"""What the trainers do with `args` and `data_collator` before TRL sees them."""

import copy
import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from datasets import Dataset, IterableDataset
from transformers import TrainingArguments
from trl import SFTTrainer

from hf_reason.text.collator import CoTCollator

_Config = TypeVar("_Config", bound=TrainingArguments)
# what SFTTrainer accepts by position after `processing_class`
_LATER = tuple(inspect.signature(SFTTrainer.__init__).parameters)[7:]


def own_arguments(args: Any, config: type[_Config], model: Any, name: str) -> _Config:
    """A copy of `args` as `config`, so that nothing the trainer and TRL set in it reaches the caller's object.

    Args:
        args: A `config`, which is copied; a configuration of TRL's or transformers' whose settings `config` can hold,
            which is converted; or `None`: the defaults.
        config: The trainer's configuration class.
        model: The model or its name, for the default `output_dir`.
        name: The trainer's name, for the same.

    Raises:
        TypeError: if `args` is something else, or has settings that `config` cannot hold.
    """
    if args is None:
        model_name = model if isinstance(model, str) else model.config.name_or_path or "model"
        return config(f"{model_name.split('/')[-1]}-{name}")
    if not isinstance(args, config):
        return _converted(args, config)
    own = copy.copy(args)
    for field in dataclasses.fields(own):
        value = getattr(own, field.name, None)
        if isinstance(value, dict | list):
            setattr(own, field.name, copy.copy(value))
    own.accelerator_config = copy.copy(own.accelerator_config)  # TRL sets dispatch_batches in it
    return own


def _converted(args: Any, config: type[_Config]) -> _Config:
    if not isinstance(args, TrainingArguments):
        raise TypeError(f"args must be a {config.__name__}, got a {type(args).__name__}.")
    known = {field.name for field in dataclasses.fields(config) if field.init}
    lost = [
        field.name
        for field in dataclasses.fields(args)
        if field.init and field.name not in known and getattr(args, field.name) != _default(field)
    ]
    if lost:
        raise TypeError(
            f"args is a {type(args).__name__} that sets {', '.join(lost)}, which a {config.__name__} does not have. "
            f"Pass a {config.__name__}."
        )
    values = {name: value for name, value in args.to_dict().items() if name in known}
    # to_dict hides tokens
    values |= {name: getattr(args, name) for name in values if name.endswith("_token")}
    return config(**values)


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def named_arguments(others: tuple[Any, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """`SFTTrainer`'s arguments after `processing_class` by name, whether they were passed by position or by name.

    Raises:
        TypeError: if there are too many, or one is passed twice.
    """
    if len(others) > len(_LATER):
        raise TypeError(f"Too many positional arguments: the last one is {_LATER[-1]}.")
    by_position = dict(zip(_LATER, others, strict=False))
    if twice := by_position.keys() & given.keys():
        raise TypeError(f"{', '.join(sorted(twice))} was passed by position and by name.")
    return {**by_position, **given}


def check_positions(data_collator: Any) -> None:
    """Refuse a data set in the place of the collator, where version 0.1 had `train_dataset`.

    Raises:
        TypeError: if `data_collator` is a data set.
    """
    if isinstance(data_collator, Dataset | IterableDataset):
        raise TypeError(
            "The third positional argument is data_collator since version 0.2, as in trl.SFTTrainer, and it is a data "
            "set here. Pass train_dataset=..., eval_dataset=... and processing_class=... by name."
        )


def check_collator(data_collator: Any, columns: Iterable[str]) -> None:
    """Refuse a collator that would drop columns that the training reads.

    Args:
        data_collator: The user's.
        columns: Columns beyond `input_ids` and `labels` that are read.

    Raises:
        ValueError: if it is not a `CoTCollator` and there are such columns.
    """
    needed = list(dict.fromkeys(columns))
    if data_collator is not None and needed and not isinstance(data_collator, CoTCollator):
        raise ValueError(
            f"These settings read the columns {', '.join(needed)} of a batch, which a data_collator of your own does "
            "not pass on. Leave data_collator out, pass a hf_reason.text.collator.CoTCollator, or leave "
            "thought_weight, answer_weight, step_weighting, tasks, domains and path_weight at their defaults."
        )


def check_data(dataset: Any, name: str) -> None:
    """Refuse a data set without examples.

    Raises:
        ValueError: if it has a length, which is 0.
    """
    if isinstance(dataset, Dataset) and not len(dataset):
        raise ValueError(f"The {name} data set is empty. Check the split and the filters that it was made with.")
