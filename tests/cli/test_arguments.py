"""The argument classes: what a YAML or a Python caller may give, old names, and what each field says about itself."""

from dataclasses import fields

import pytest

from hf_reason._renamed import RenamedArgumentError
from hf_reason.cli import arguments, generation_arguments
from hf_reason.cli.arguments import (
    CacheArguments,
    ContinualArguments,
    DataArguments,
    LongContextArguments,
    RoutingArguments,
    ScratchArguments,
    SourceArguments,
    StudentArguments,
)
from hf_reason.cli.evaluate import EvaluateArguments
from hf_reason.cli.generation_arguments import EvaluationArguments, GenerationArguments, InferenceArguments

CLASSES = [
    CacheArguments,
    ContinualArguments,
    DataArguments,
    EvaluationArguments,
    GenerationArguments,
    InferenceArguments,
    LongContextArguments,
    RoutingArguments,
    ScratchArguments,
    SourceArguments,
    StudentArguments,
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_field_has_help_and_says_card_and_resumable(cls):
    for item in fields(cls):
        assert isinstance(item.metadata.get("card"), bool), item.name
        assert isinstance(item.metadata.get("resumable"), bool), item.name
        assert item.metadata["help"].strip().endswith("."), item.name


def test_all_classes_of_the_modules_are_tested():
    found = {
        value
        for module in (arguments, generation_arguments)
        for value in vars(module).values()
        if isinstance(value, type) and hasattr(value, "__post_init__")
    }
    assert found == set(CLASSES)


@pytest.mark.parametrize(
    ("cls", "old", "new"),
    [
        (DataArguments, "dataset", "dataset_name"),
        (EvaluationArguments, "eval_samples", "num_samples"),
        (EvaluationArguments, "eval_records", "max_eval_records"),
        (EvaluationArguments, "test_records", "max_test_records"),
        (EvaluationArguments, "eval_max_new_tokens", "eval_max_completion_length"),
        (RoutingArguments, "anneal_share", "anneal_ratio"),
        (ContinualArguments, "replay_share", "replay_ratio"),
        (CacheArguments, "k", "top_k"),
        (CacheArguments, "path", "path_consistency"),
        (CacheArguments, "teacher", "teacher_model_name_or_path"),
    ],
)
def test_old_names_give_the_new_one(cls, old, new):
    assert cls.__renamed__[old] == new
    assert new in {item.name for item in fields(cls)}
    with pytest.raises(RenamedArgumentError, match=new):
        cls(**{old: "x"})


def test_one_name_or_several():
    assert DataArguments().dataset_name is None
    assert DataArguments(dataset_name="one").dataset_name == ["one"]
    assert ContinualArguments(old_dataset="one", old_domains="math").old_domains == ["math"]
    assert CacheArguments(dataset_name=["a", "b"], teacher_model_name_or_path="teacher").splits == [
        "train",
        "validation",
    ]


@pytest.mark.parametrize(
    ("given", "text"), [("shallow_half", "shallow_half"), (0.5, "0.5"), ([0, 1], "0,1"), (1, "1"), ("8-15", "8-15")]
)
def test_layers_as_a_yaml_may_give_them(given, text):
    assert LongContextArguments(sliding_window_layers=given).sliding_window_layers == text
    assert RoutingArguments(loar_window_layers=given).loar_window_layers == text


def test_distractors_are_off_unless_asked_for():
    assert EvaluationArguments().eval_distractors is False


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (DataArguments, {"max_dropped_ratio": 2}, "max_dropped_ratio"),
        (EvaluationArguments, {"vote": True}, "set num_samples to 2 or more"),
        (EvaluationArguments, {"num_samples": 0}, "num_samples"),
        (EvaluationArguments, {"eval_max_completion_length": 0}, "eval_max_completion_length must be at least 1"),
        (EvaluationArguments, {"eval_generation_batch_size": 0}, "eval_generation_batch_size must be at least 1"),
        (EvaluateArguments, {"max_thought_tokens": 2048}, "part of max_completion_length=2048"),
        (EvaluateArguments, {"max_thought_tokens": 9, "thinking": False}, "needs thinking=true"),
        (EvaluateArguments, {"max_completion_length": 0}, "max_completion_length must be at least 1"),
        (EvaluateArguments, {"batch_size": -1}, "batch_size must be at least 1"),
        (ContinualArguments, {"old_dataset": "x", "replay_ratio": 1.0}, "replay_ratio"),
        (ContinualArguments, {"old_dataset": "x", "adapter": "new"}, "fresh, continue, none"),
        (ContinualArguments, {"old_dataset": "x", "min_learned_records": -1}, "min_learned_records"),
        (LongContextArguments, {"rope_scaling": "factor 4"}, "rope_scaling is not JSON"),
        (LongContextArguments, {"rope_scaling": {"rope_type": "yarn"}}, "rope_scaling lacks the factor"),
        (ScratchArguments, {"model_config": "{hidden_size: 8"}, "not JSON"),
    ],
)
def test_wrong_values_are_refused_before_anything_loads(cls, values, message):
    given = {"model_name_or_path": ["x"]} if cls is EvaluateArguments else {}
    with pytest.raises(ValueError, match=message):
        cls(**given, **values)


@pytest.mark.parametrize(
    ("budget", "thinking", "message"),
    [
        (None, False, None),
        (63, True, None),
        (64, True, "part of eval_max_completion_length=64"),
        (100, True, "raise eval_max_completion_length"),
        (-1, True, "must not be negative"),
        (8, False, "needs thinking=true"),
    ],
)
def test_a_budget_that_does_not_fit_is_refused_before_the_training(budget, thinking, message):
    evaluation = EvaluationArguments(max_thought_tokens=budget, eval_max_completion_length=64)
    if message is None:
        evaluation.check(thinking)
    else:
        with pytest.raises(ValueError, match=message):
            evaluation.check(thinking)
