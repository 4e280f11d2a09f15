"""Broken YAMLs and command lines of every command: one line and an exit code, and nothing touched but output_dir."""

import json
import logging
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from broken import EXAMPLES, WEIRD_TEXTS, anything, campaign, listing, sizes, texts
from hypothesis import strategies as st

from hf_reason.cli import launcher
from hf_reason.cli.circling import server
from hf_reason.cli.main import main
from hf_reason.cli.parsing.commands import COMMANDS
from hf_reason.cli.stages import process

CONFIGS = Path(__file__).parents[2] / "recipes" / "configs"
# All but the demo, which needs no arguments: a line that happens to be good would run it whole.
NAMES = sorted(set(COMMANDS) - {"demo"})
# What ends each of them before any model is loaded.
NO_MODEL = ("model_name_or_path", "teacher_model_name_or_path", "translator_model_name_or_path")
NUMBERS = ["1e-3", "-1", "0", "nan", "inf", "1e400", "true", "no", "3.7", "9" * 30, "٣", "1_000", "0b1", "~", "1 2"]
# What passes the types of many arguments and is wrong for most of them.
PLAUSIBLE = [
    0,
    1,
    -1,
    2,
    0.5,
    1e-30,
    1e30,
    10**12,
    True,
    False,
    None,
    [],
    [0],
    ["a"],
    {},
    {"a": 1},
    "all",
    "x.yaml",
    "none",
]


def _settings(command):
    """The values of the recipes' YAMLs of a command, and all of its fields."""
    found = {}
    for path in sorted((CONFIGS / command.replace("-", "_")).glob("*.yaml")):
        found |= yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return found


@st.composite
def broken_yamls(draw):
    """(command, bytes of a YAML): a few good keys and one to five broken ones, or a text that is none."""
    command = draw(st.sampled_from(NAMES))
    fields, good = sorted(COMMANDS[command].fields()), _settings(command)
    chosen = draw(st.lists(st.sampled_from(sorted(good)), max_size=5, unique=True)) if good else []
    content = {name: good[name] for name in chosen}
    for _ in range(draw(st.integers(1, 5))):
        name = draw(st.sampled_from(fields) | texts | st.sampled_from(["env", "num_processes", "accelerate_config"]))
        plausible = st.sampled_from(PLAUSIBLE)
        content[name] = draw(
            plausible
            | plausible
            | anything
            | st.sampled_from(NUMBERS)
            | st.sampled_from(["", "/", "..", ".", "~", "a/b/c"])
        )
    try:
        text = yaml.safe_dump(content, allow_unicode=draw(st.booleans()))
    except Exception:  # what PyYAML itself cannot write
        text = json.dumps(content)
    way = draw(st.integers(0, 11))
    if way == 0:
        place = draw(st.integers(0, len(text)))
        text = (
            text[:place]
            + draw(texts | st.sampled_from(["\t", "- ", ": ", "&a", "*a", "!!int ", "---\n", "? "]))
            + text[place:]
        )
    elif way == 1:
        text = draw(st.text(max_size=60) | st.sampled_from(WEIRD_TEXTS))
    elif way == 2:
        text = "a: &a [x, x, x, x]\n" + "\n".join(
            f"{b}: &{b} [*{a}, *{a}, *{a}]" for a, b in zip("abcdefg", "bcdefgh", strict=True)
        )
    elif way == 3:
        text += text
    content = text.encode("utf-8", "surrogatepass")
    return command, content if way != 4 else draw(st.binary(max_size=60))


@st.composite
def broken_lines(draw):
    """(command, words): known and unknown options with values of every kind."""
    command = draw(st.sampled_from(NAMES))
    fields = sorted(COMMANDS[command].fields())
    words = []
    for _ in range(draw(st.integers(1, 6))):
        name = draw(st.sampled_from(fields) | st.text(max_size=12))
        value = draw(
            texts | st.sampled_from(NUMBERS) | st.sampled_from(["{", "[1]", '{"a": 1}', "..", "/", "-", "--"])
        )
        dashes = draw(st.sampled_from(["--"] * 8 + ["-", "—", ""]))
        words += [f"{dashes}{name}={value}"] if draw(st.integers(0, 3)) == 0 else [f"{dashes}{name}", value]
    return command, words


@pytest.fixture
def run(tmp_path, monkeypatch, records, capsys):
    """Run a command in this process; returns its exit code after all checks."""
    here, out = tmp_path / "here", tmp_path / "here" / "out"
    here.mkdir()
    monkeypatch.chdir(here)
    rows = [{name: row[name] for name in ("context", "steps", "answer")} for row in records[:20]]
    data = here / "data.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    environment = dict(os.environ)
    # handlers of libraries keep the stream of the test in which they were made
    monkeypatch.setattr(logging, "raiseExceptions", False)

    def refuse(start):
        raise ValueError("the campaign starts no processes")

    monkeypatch.setattr(launcher, "_waited", refuse)
    for module in (process, server):  # of the project alone: libraries ask programs for their versions
        none = SimpleNamespace(**{**vars(subprocess), "Popen": lambda *_, **__: refuse(None)})
        monkeypatch.setattr(module, "subprocess", none)

    def command(name, words):
        fields = COMMANDS[name].fields()
        # a model that is not there comes last: whatever was broken before, no work begins
        end = [word for field in NO_MODEL if field in fields for word in (f"--{field}", "./nothing")]
        places = [("dataset_name", data), ("output_dir", out), ("outfile", out / "x.gguf"), ("question", "1+1=?")]
        end += [str(word) for field, place in places if field in fields for word in (f"--{field}", place)]
        before = listing(tmp_path, without=out)
        try:
            code = main([name, *words, *end])
        except SystemExit as stop:
            code = stop.code
        finally:
            os.environ.clear()
            os.environ.update(environment)
        printed = capsys.readouterr().err
        assert code in ((0, 2) if name in ("prepare", "augment") else (2,)), (code, name, words, printed[-500:])
        if code:
            errors = [line for line in printed.splitlines() if line.startswith("Error: ")]
            assert len(errors) == 1 and len(errors[0]) > 15, (name, words, printed[-500:])
            assert "Traceback" not in printed
        assert listing(tmp_path, without=out) == before, (name, words)
        return code

    return command, here


@sizes(15, max(EXAMPLES // 10, 1))
def test_yamls(run, tmp_path_factory, examples):
    """1,000 of them: a tenth of HF_REASON_FUZZ."""
    command, _ = run
    path = tmp_path_factory.mktemp("yaml") / "c.yaml"

    def check(example):
        name, content = example
        path.write_bytes(content)
        command(name, ["--config", str(path)])

    campaign(examples, broken_yamls(), check)


@sizes(15, max(EXAMPLES // 10, 1))
def test_command_lines(run, examples):
    """1,000 of them: a tenth of HF_REASON_FUZZ."""
    command, _ = run
    campaign(examples, broken_lines(), lambda example: command(*example))
