"""Every YAML under recipes/configs has only arguments that its command knows, and values that its classes accept."""

import importlib
from pathlib import Path

import pytest
import yaml

from hf_reason.cli import demo
from hf_reason.cli.compress import CLASSES
from hf_reason.cli.parsing.commands import COMMANDS
from hf_reason.cli.parsing.parser import parse
from hf_reason.cli.stages.sections import STAGES, stages_of

CONFIGS = Path(__file__).parents[2] / "recipes" / "configs"
# the folders have the names of the recipes, and of the article's parts
FOLDERS = {
    "sft_cot": "sft",
    "distill_kl": "distill",
    "lora_reasoner": "lora",
    "loar": "loar",
    "continual": "continual",
    "grpo": "grpo",
    "compress": "compress",
    "circle": "circle",
    "generate_traces": "generate-traces",
    "augment": "augment",
}
PATHS = sorted(CONFIGS.glob("**/*.yaml"))


def test_every_file_belongs_to_a_command() -> None:
    assert len(PATHS) >= 11
    assert {path.parent.name for path in PATHS} == set(FOLDERS)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_configuration_parses(path: Path, tmp_path: Path) -> None:
    command = FOLDERS[path.parent.name]
    classes = importlib.import_module(COMMANDS[command].module).CLASSES
    # what a test machine lacks is not what is tested here
    here = ["--use_cpu", "true", "--output_dir", str(tmp_path)]
    here += ["--bf16", "false"] if COMMANDS[command].trains else []
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    if command == "distill" and not settings.get("teacher_model_name_or_path"):
        here += ["--teacher_model_name_or_path", "self"]
    parsed = parse(command, classes, ["--config", str(path), *here])
    values = {name: value for group in parsed for name, value in vars(group).items()}
    assert settings.keys() <= values.keys()
    for name in ("learning_rate", "max_steps", "domain", "eval_strategy"):
        if name in settings:
            assert values[name] == settings[name], name
    if settings.get("load_best_model_at_end"):
        assert settings["metric_for_best_model"] in ("step_accuracy", "answer_accuracy")
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert header.startswith("# "), "a configuration says what it is for"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("compress/*.yaml")), ids=lambda path: path.stem)
def test_sections_parse(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    extras = ("gptqmodel", "bitsandbytes")
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: name in extras or real(name, *rest))
    (args,) = parse("compress", CLASSES, ["--config", str(path), "--use_cpu"])
    sections = {name: getattr(args, name) for name in STAGES}
    found = stages_of(args, sections, {"distill": ["--bf16", "false"]}, path.name)
    assert [stage.name for stage in found] == [name for name in STAGES if sections[name] is not None]


def test_configurations_of_the_demo_are_those_of_the_package() -> None:
    for name in (*demo.MODELS.values(), *demo.SECOND.values()):
        shown, shipped = CONFIGS / "sft_cot" / f"{name}.yaml", demo.CONFIGS / f"{name}.yaml"
        assert shown.resolve() == shipped.resolve() and shipped.is_file()


def test_the_two_sides_of_the_demo_differ_only_in_what_they_compare() -> None:
    folder = CONFIGS / "sft_cot"
    cot, direct = (yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in ("demo", "demo_direct"))
    different = {name for name in cot.keys() | direct.keys() if cot.get(name) != direct.get(name)}
    compared = {"thinking", "output_dir", "metric_for_best_model"}
    assert different == compared | {"max_steps", "eval_steps", "save_steps", "lr_scheduler_kwargs"}
