"""What the trainers do with `args` and `data_collator` before TRL sees them."""

import copy
import dataclasses
import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase, ProcessorMixin, TrainingArguments
from trl import SFTTrainer

from hf_reason.text.collator import CoTCollator
from hf_reason.trainers.sampling.order import weighs_something

logger = logging.getLogger(__name__)

_Config = TypeVar("_Config", bound=TrainingArguments)
# what SFTTrainer accepts by position after `processing_class`
_LATER = tuple(inspect.signature(SFTTrainer.__init__).parameters)[7:]


def own_arguments(args: Any, config: type[_Config], model: Any, name: str) -> _Config:
    """A copy of `args` as `config`, so that nothing the trainer and TRL set in it reaches the caller's object.

    Args:
        args: A `config`, which is copied; a `TrainingArguments`, `SFTConfig` or configuration of the project whose
            settings `config` can hold, which is converted; or `None`: the defaults.
        config: The trainer's configuration class.
        model: The model or its name, for the default `output_dir`.
        name: The trainer's name, for the same.

    Raises:
        TypeError: if `args` is something else, belongs to another trainer, or has settings that `config` cannot hold.
    """
    if args is None:
        model_name = model if isinstance(model, str) else model.config.name_or_path or "model"
        return config(f"{model_name.split('/')[-1]}-{name}")
    _refuse_loss(args, config)
    if not isinstance(args, config):
        return _converted(args, config)
    own = copy.copy(args)
    for field in dataclasses.fields(own):
        value = getattr(own, field.name, None)
        if isinstance(value, dict | list):
            setattr(own, field.name, copy.copy(value))
    own.accelerator_config = copy.copy(own.accelerator_config)  # TRL sets dispatch_batches in it
    return own


def _refuse_loss(args: Any, config: type[TrainingArguments]) -> None:
    """Refuse a configuration of which something would be lost: options, or what another trainer is for.

    A `DistillKLConfig` is a `CoTSFTConfig`, and would train without its teacher.
    """
    if not isinstance(args, TrainingArguments):
        raise TypeError(f"args must be a {config.__name__}, got a {type(args).__name__}.")
    # the user's own classes are what they derive from
    kind = next(c for c in type(args).__mro__ if c.__module__.split(".")[0] in ("hf_reason", "trl", "transformers"))
    foreign = not issubclass(config, kind) and not kind.__module__.startswith("transformers")
    known = {field.name for field in dataclasses.fields(config) if field.init}
    lost = [
        field.name
        for field in dataclasses.fields(args)
        if field.init and field.name not in known and getattr(args, field.name) != _default(field)
    ]
    if lost and (foreign or not isinstance(args, config)):
        what = f"that sets {', '.join(lost)}, which a {config.__name__} does not have"
    elif foreign:
        what = f"for {kind.__name__.removesuffix('Config')}Trainer, which this trainer cannot replace"
    else:
        return
    raise TypeError(f"args is a {type(args).__name__} {what}. Pass a {config.__name__}.")


def _converted(args: TrainingArguments, config: type[_Config]) -> _Config:
    known = {field.name for field in dataclasses.fields(config) if field.init}
    values = {name: value for name, value in args.to_dict().items() if name in known}
    # to_dict hides tokens
    values |= {name: getattr(args, name) for name in values if name.endswith("_token")}
    return config(**values)


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def named_arguments(
    others: tuple[Any, ...], given: Mapping[str, Any], names: Sequence[str] = _LATER
) -> dict[str, Any]:
    """The arguments after `processing_class` by name, whether they were passed by position or by name.

    Args:
        others: Passed by position.
        given: Passed by name.
        names: What can be passed by position, in order. Default: `SFTTrainer`'s.

    Raises:
        TypeError: if there are too many, or one is passed twice.
    """
    if len(others) > len(names):
        raise TypeError(f"Too many positional arguments: the last one is {names[-1]}.")
    by_position = dict(zip(names, others, strict=False))
    if twice := by_position.keys() & given.keys():
        raise TypeError(f"{', '.join(sorted(twice))} was passed by position and by name.")
    return {**by_position, **given}


def check_positions(data_collator: Any) -> None:
    """Refuse a data set in the place of the collator, where version 0.1 had `train_dataset`.

    Raises:
        TypeError: if `data_collator` is a data set, a tokenizer, or cannot be called.
    """
    if isinstance(data_collator, Dataset | IterableDataset):
        raise TypeError(
            "The third positional argument is data_collator since version 0.2, as in trl.SFTTrainer, and it is a data "
            "set here. Pass train_dataset=..., eval_dataset=... and processing_class=... by name."
        )
    is_tokenizer = isinstance(data_collator, PreTrainedTokenizerBase | ProcessorMixin)
    if data_collator is not None and (is_tokenizer or not callable(data_collator)):
        raise TypeError(
            "data_collator is the third positional argument, as in trl.SFTTrainer; got a "
            f"{type(data_collator).__name__}. Pass train_dataset=..., eval_dataset=... and processing_class=... by "
            "name."
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
    """Refuse a data set without examples, and a training set that is something else.

    Raises:
        TypeError: for a list, a dictionary of splits, ... in the place of the training set.
        ValueError: if it has no first example.
    """
    is_dataset = isinstance(dataset, Dataset | IterableDataset)
    if name == "train" and dataset is not None and not is_dataset:
        fix = "Dataset.from_list(rows)" if isinstance(dataset, list) else "one of its splits, such as data['train']"
        raise TypeError(
            f"train_dataset must be a Dataset or an IterableDataset, got a {type(dataset).__name__}. Pass {fix}."
        )
    if is_dataset and _is_empty(dataset):
        raise ValueError(f"The {name} data set is empty. Check the split and the filters that it was made with.")


def _is_empty(dataset: "Dataset | IterableDataset") -> bool:
    return not len(dataset) if isinstance(dataset, Dataset) else next(iter(dataset), None) is None


def check_rows(rows: Any, name: str, args: Any) -> None:
    """Refuse prepared data of which nothing is left, or nothing is learned from.

    Raises:
        ValueError: if there is no example, no whole batch with `dataloader_drop_last`, or (of a training set that is
            not streamed) no token that the loss counts.
    """
    if _is_empty(rows):
        raise ValueError(
            f"{name} data set: no example is left after max_length={args.max_length}, or none has a label. Raise "
            "max_length, or check the data."
        )
    batch = args.world_size * (args.train_batch_size if name == "train" else args.eval_batch_size)
    if args.dataloader_drop_last and isinstance(rows, Dataset) and len(rows) < batch:
        raise ValueError(
            f"{name} data set: {len(rows)} examples fill no batch of {batch}, and dataloader_drop_last=True "
            "drops what does not. Lower the batch size, or leave dataloader_drop_last out."
        )
    if not isinstance(rows, Dataset) or "labels" not in rows.column_names or weighs_something(rows, args):
        return
    message = (
        f"{name} data set: no token counts in the loss. Either all labels are -100, or thought_weight and "
        "answer_weight leave none of them: bare answers have no thought."
    )
    if name == "train":
        raise ValueError(message)
    logger.warning("%s Its loss is 0.", message)
