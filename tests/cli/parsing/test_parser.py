"""The parser: a command line and a YAML give typed arguments, and whatever is wrong is one line with its fix."""

import os
from dataclasses import dataclass, field
from typing import Any

import pytest
from trl import ModelConfig

from hf_reason._options import option
from hf_reason._renamed import renamed
from hf_reason.cli.arguments import DataArguments, LongContextArguments, ScratchArguments
from hf_reason.cli.generation_arguments import EvaluationArguments
from hf_reason.cli.parsing.parser import parse, parse_known
from hf_reason.trainers import CoTSFTConfig

SFT = (DataArguments, ScratchArguments, LongContextArguments, EvaluationArguments, CoTSFTConfig, ModelConfig)


@renamed(old_rate="rate")
@dataclass
class Things:
    names: list[str] = option(help="Some names.", default_factory=lambda: ["a"])
    rate: float = option(0.5, "A rate.")
    count: int = option(1, "A count.", resumable=True)
    limit: int | None = option(None, "At most.")
    flag: bool = option(False, "A flag.")
    mode: str = option("no", "A mode.", choices=["no", "steps"])
    extra: dict[str, Any] | str | None = option(None, "More.")
    kinds: tuple[str, ...] = field(default=("x", "y"), metadata={"help": "Kinds.", "choices": ["x", "y", "z"]})
    batch: int = option(2, "A batch.")
    learning_rate: float = option(1.0, "As TRL calls it.")


@dataclass
class Inner:
    depth: int = 3


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)
    width: int = 1


def things(*words: str) -> Things:
    return parse("prepare", (Things,), words)[0]


@pytest.fixture
def yaml_file(tmp_path):
    def write(text: str) -> list[str]:
        (tmp_path / "things.yaml").write_text(text, encoding="utf-8")
        return ["--config", str(tmp_path / "things.yaml")]

    return write


def test_values_of_a_command_line() -> None:
    found = things("--names", "b", "c", "--rate", "1e-3", "--limit", "none", "--flag", "--mode=steps", "--kinds", "z")
    assert (found.names, found.rate, found.limit, found.flag) == (["b", "c"], 0.001, None, True)
    assert (found.mode, list(found.kinds), found.count) == ("steps", ["z"], 1)
    assert list(things().kinds) == ["x", "y"]


def test_values_of_a_yaml_and_the_command_line_wins(yaml_file) -> None:
    config = yaml_file(
        "names: b\nrate: 1e-3\ncount: '4'\nlimit: 2e1\nmode: no\nextra: {a: [1]}\nkinds: z\nflag: 'yes'"
    )
    found = things(*config, "--count", "7")
    assert (found.names, found.rate, found.count, found.limit) == (["b"], 0.001, 7, 20)
    assert (found.mode, found.extra, list(found.kinds), found.flag) == ("no", {"a": [1]}, ["z"], True)
    assert things(config[0] + "=" + config[1]).names == ["b"]
    assert things(*yaml_file("")).names == ["a"], "an empty file sets nothing"


def test_environment_of_a_yaml(yaml_file, monkeypatch) -> None:
    monkeypatch.setenv("HF_REASON_TEST", "before")
    things(*yaml_file("env: {HF_REASON_TEST: 5}\nrate: 1"))
    assert os.environ["HF_REASON_TEST"] == "5"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--old_rate", "1"], "--old_rate was renamed to --rate in version 0.2."),
        (
            ["--old_rate", "1", "--model", "m", "--rats", "2"],
            "--old_rate was renamed to --rate in version 0.2. there is no argument --model: did you mean --mode? "
            "there is no argument --rats: did you mean --rate?",
        ),
        (["--rats", "1"], "there is no argument --rats: did you mean --rate?"),
        (["--lr", "1"], "there is no argument --lr: did you mean --learning_rate?"),
        (["--zzz", "1"], "there is no argument --zzz; --help"),
        (["--rate", "much"], "--rate must be a number, got 'much'."),
        (["--count", "1.5"], "--count must be a whole number, got '1.5'."),
        (["--flag", "perhaps"], "--flag must be true or false, got 'perhaps'."),
        (["--mode", "often"], "--mode must be one of 'no', 'steps', got 'often'."),
        (["--kinds", "q"], "--kinds must be one of 'x', 'y', 'z', got 'q'."),
        (["--rate"], "--rate needs a value."),
        (["--config"], "--config needs a value"),
        (["--rate", "1", "2"], "'2' belongs to no argument."),
        (["--config", "nowhere.yaml"], "--config nowhere.yaml: there is no such file."),
    ],
)
def test_errors_of_a_command_line(words, message) -> None:
    with pytest.raises(ValueError) as caught:
        things(*words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate: 1\ncount: a: b\n", ", line 2: this is not YAML: mapping values are not allowed here"),
        ("names: [a\nrate: 1\n", ", line 2: this is not YAML"),
        ("- rate\n", " must be a mapping"),
        ("rate 1\n", " must be a mapping"),
        ("old_rate: 1\n", ": old_rate was renamed to rate in version 0.2."),
        ("old_rate: 1\ncoumt: 1\n", ": old_rate was renamed to rate in version 0.2. there is no argument coumt: did"),
        ("coumt: 1\n", ": there is no argument coumt: did you mean count?"),
        ("count: many\n", ": count must be a whole number, got 'many'."),
        ("count: 1.5\n", ": count must be a whole number, got 1.5."),
        ("count: [1]\n", ": count must be a whole number, got [1]."),
        ("count:\n", ": count is empty"),
        ("flag: 3\n", ": flag must be true or false, got 3."),
        ("mode: often\n", ": mode must be one of no, steps, got 'often'."),
        ("kinds: [x, q]\n", ": kinds must be one of x, y, z, got 'q'."),
        ("names: {a: b}\n", ": names must be a list, got {'a': 'b'}."),
        ("env: [a]\n", ": env must be a mapping"),
        ("num_processes: 2\n", ": there is no argument num_processes"),
    ],
)
def test_errors_of_a_yaml_name_the_file(yaml_file, text, message) -> None:
    config = yaml_file(text)
    with pytest.raises(ValueError) as caught:
        things(*config)
    assert f"{config[1]}{message}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_belongs_to_nothing_can_be_passed_on() -> None:
    (found,), extra = parse_known("demo", (Things,), ["--rate", "2", "--max_steps", "4", "--unknown=3"])
    assert found.rate == 2 and set(extra) >= {"--max_steps", "4", "--unknown=3"}


def test_a_field_that_is_another_class_has_its_arguments_there() -> None:
    outer, inner = parse("prepare", (Outer, Inner), ["--depth", "5"])
    assert outer.inner is inner and inner.depth == 5 and outer.width == 1


def test_help_ends_the_process(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        parse("ask", (Things,), ["--help"])
    assert stop.value.code == 0 and "usage: hf-reason ask" in capsys.readouterr().out


def sft(output, *words: str, command: str = "sft") -> ModelConfig:
    return parse(command, SFT, ["--output_dir", str(output), "--use_cpu", "true", *words])[-1]


def test_an_option_of_lora_implies_lora_and_says_so(tmp_path, yaml_file, capsys) -> None:
    assert sft(tmp_path, "--lora_r", "4").use_peft is True
    assert "Note: lora_r is set, so a LoRA is trained" in capsys.readouterr().err
    assert sft(tmp_path, *yaml_file("lora_target_modules: all-linear\n")).use_peft is True
    assert sft(tmp_path, "--lora_r", "4", "--use_peft", "false").use_peft is False
    assert "all weights are trained without lora_r" in capsys.readouterr().err
    assert sft(tmp_path).use_peft is False
    assert capsys.readouterr().err == ""


def test_commands_that_decide_about_lora_say_when_they_are_contradicted(tmp_path, capsys) -> None:
    sft(tmp_path, "--use_peft", "false", command="lora")
    assert "use_peft is ignored: `lora` always trains a LoRA" in capsys.readouterr().err
    sft(tmp_path, "--use_peft", "true", command="continual")
    assert "use_peft is ignored: --adapter" in capsys.readouterr().err


def test_text_or_a_list_of_texts(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("hf_reason.cli.parsing.checks._is_installed", lambda name: True)
    words = ["--output_dir", str(tmp_path), "--use_cpu", "true"]
    parsed = parse("sft", SFT, [*words, "--report_to", "tensorboard", "trackio"])
    assert parsed[-2].report_to == ["tensorboard", "trackio"]
    parsed = parse("sft", SFT, [*words, "--report_to", "none", "--lora_target_modules", "q_proj", "v_proj"])
    assert parsed[-2].report_to == [] and parsed[-1].lora_target_modules == ["q_proj", "v_proj"]


def test_errors_of_a_training(tmp_path, monkeypatch) -> None:
    with pytest.raises(ValueError, match="there is no output_dir. Give --output_dir"):
        parse("sft", SFT, ["--max_steps", "1"])
    with pytest.raises(ValueError, match="--lora_rank: did you mean --lora_r?"):
        sft(tmp_path, "--lora_rank", "4")
    monkeypatch.setattr("hf_reason.cli.parsing.checks._is_installed", lambda name: False)
    with pytest.raises(ValueError, match=r"--report_to tensorboard needs .* pip install 'hf_reason\[tracking\]'"):
        sft(tmp_path, "--report_to", "tensorboard")
    with pytest.raises(ValueError, match="--report_to wandb needs .* pip install 'wandb'"):
        sft(tmp_path, "--report_to", "wandb")


def test_keys_of_the_launcher_in_a_yaml_are_left_to_it(tmp_path, yaml_file) -> None:
    sft(tmp_path, *yaml_file("num_processes: 2\naccelerate_config: ddp\n"))
    with pytest.raises(ValueError, match="did you mean num_processes?"):
        sft(tmp_path, *yaml_file("num_gpus: 2\n"))


def test_numbers_given_as_text_in_python(tmp_path) -> None:
    config = CoTSFTConfig(output_dir=str(tmp_path), learning_rate="1e-3", max_length="128", bf16=False)  # type: ignore[arg-type]
    assert (config.learning_rate, config.max_length) == (0.001, 128)
    with pytest.raises(ValueError, match="learning_rate must be a number, got 'fast'."):
        CoTSFTConfig(output_dir=str(tmp_path), learning_rate="fast")  # type: ignore[arg-type]


def test_memory_is_pinned_only_beside_an_accelerator(tmp_path, monkeypatch) -> None:
    def pinned(*words: str) -> bool:
        return parse("sft", SFT, ["--output_dir", str(tmp_path), *words])[-2].dataloader_pin_memory

    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    assert pinned() is False and pinned("--dataloader_pin_memory", "true") is True, "the user's own word counts"
