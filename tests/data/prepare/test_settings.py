"""`PrepareConfig`: what is out of range or misspelt is refused with a message that helps."""

from dataclasses import dataclass, field, fields

import pytest

from hf_reason.data import DataError, FilterConfig, PrepareConfig, prepare
from hf_reason.data.prepare.settings import describe_settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schema": "congliu"}, "Unknown schema 'congliu'. Did you mean 'congliu_r1'"),
        ({"history": "kep"}, "Did you mean 'keep'.*drop, keep, split"),
        ({"domain": "finances"}, "Did you mean 'finance'"),
        ({"domain": "math", "domain_rules": "rules.yaml"}, "domain_rules would have no effect"),
        ({"duplicate_threshold": 0}, "duplicate_threshold 0"),
        ({"validation_size": -0.1}, "must not be negative"),
        ({"validation_size": 0.6, "test_size": 0.5}, "at most 1"),
        ({"validation_size": 1, "test_size": 1}, "at most 1"),
        ({"filters": {"min_steps": 2}}, "must be a FilterConfig"),
        ({"decontaminate": 3}, "decontaminate must be a list of paths"),
    ],
)
def test_bad_values_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        PrepareConfig(**options)


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, (0.9, 0.05, 0.05)),
        ({"test_size": 1}, (0, 0, 1)),
        ({"validation_size": 1}, (0, 1, 0)),
        ({"validation_size": 0.3, "test_size": 0.7}, (0, 0.3, 0.7)),
        ({"validation_size": 0, "test_size": 0}, (1, 0, 0)),
    ],
)
def test_split_sizes(options, sizes):
    assert tuple(PrepareConfig(**options).split_sizes.values()) == pytest.approx(sizes)


def test_unknown_and_old_names_are_named(tmp_path):
    with pytest.raises(TypeError, match="no argument 'test_sizes'. Did you mean 'test_size'"):
        prepare("x.jsonl", tmp_path, test_sizes=0.1)
    with pytest.raises(TypeError, match=r"filters=FilterConfig\(min_steps=...\)"):
        prepare("x.jsonl", tmp_path, min_steps=2)
    for call in (lambda **old: prepare("x.jsonl", tmp_path, **old), PrepareConfig):
        with pytest.raises(TypeError, match="'test_share'.*'test_size'"):
            call(test_share=0.1)
    with pytest.raises(TypeError, match="'min_cjk_share'.*'min_cjk_ratio'"):
        FilterConfig(min_cjk_share=0.1)


def test_options_replace_fields_of_the_config():
    config = PrepareConfig(history="keep", test_size=0.2)
    assert PrepareConfig.of(config, {"test_size": 0.1}) == PrepareConfig(history="keep", test_size=0.1)
    assert PrepareConfig.of(None, {}) == PrepareConfig()

    @dataclass(kw_only=True)
    class Arguments(PrepareConfig):
        filters: FilterConfig = field(init=False, default_factory=FilterConfig)
        output_dir: str

    assert PrepareConfig.of(Arguments(output_dir="x", history="keep"), {"test_size": 0.2}) == config


def test_every_field_is_described(tmp_path):
    source = tmp_path / "a.jsonl"
    source.write_text("{}\n")
    config = PrepareConfig(decontaminate=[source], domain="math")
    described = describe_settings([str(source)], config)
    names = {each.name for each in fields(PrepareConfig)}
    assert set(described) <= names | {"sources", "versions"}
    # what was added later is left out where it is not used, so that older results are still up to date
    left_out = names - set(described)
    assert {"tokenizer_name_or_path", "images"} <= left_out
    assert all(getattr(config, name) == getattr(PrepareConfig(), name) for name in left_out)
    assert "keep_non_thinking" not in described["filters"]
    config = PrepareConfig(filters=FilterConfig(keep_non_thinking=True))
    assert describe_settings([str(source)], config)["filters"]["keep_non_thinking"] is True
    assert described["domain"] == "math" and described["decontaminate"] == described["sources"]
    assert str(tmp_path) not in str(described)
