"""`hf-reason`: its commands, their help, and how a command ends."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from hf_reason.cli import errors
from hf_reason.cli.errors import one_line_errors
from hf_reason.cli.main import main
from hf_reason.cli.parsing.commands import COMMANDS
from hf_reason.evaluation.forgetting import ForgettingError
from hf_reason.trainers.launch import LaunchError
from hf_reason.version import __version__


def test_help_lists_the_commands_with_a_line_each(capsys) -> None:
    assert main(["--help"]) == 0 == main([])
    lines = capsys.readouterr().out.splitlines()
    for name, command in COMMANDS.items():
        assert sum(line.split()[:1] == [name] for line in lines) == 2
        assert any(command.summary in line for line in lines)


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_and_version_import_no_library(word) -> None:
    script = f"import sys; from hf_reason.cli.main import main; main([{word!r}]); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    *text, modules = done.stdout.splitlines()
    assert not {"'torch'", "'transformers'", "'trl'", "'numpy'", "'yaml'"} & set(modules.strip("[]").split(", "))
    assert word == "--help" or text == [f"hf_reason {__version__}"]


@pytest.mark.parametrize("columns", ["80", "120"])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_is_short_and_complete(name, columns, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) < 150
    assert "--config FILE.yaml" in text and "usage: hf-reason" in text and COMMANDS[name].example in text
    assert main([name, "--help_all"]) == 0
    whole = capsys.readouterr().out
    shown = {word for line in whole.splitlines() for word in line.split()[:1] if word.startswith("--")}
    assert {f"--{field}" for field in COMMANDS[name].fields()} <= shown, "help_all has every argument"
    if COMMANDS[name].launches:
        assert "--num_processes" in text and "--accelerate_config" in text


def test_help_shows_groups_choices_and_defaults(capsys) -> None:
    main(["sft", "--help"])
    text = capsys.readouterr().out
    titles = [line.removesuffix(":") for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["data", "model", "loss and order", "evaluation", "LoRA", "training", "launching", "other"]
    assert "token" in text and "[4096]" in text
    main(["prepare", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for choices in ("drop, keep, split", "few_steps, repetition", "zh, en, mixed", "conversations, messages"):
        assert choices in text


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("sff", "did you mean sft?"),
        ("sft_cot", "did you mean sft?"),
        ("train", "did you mean sft?"),
        ("x", "there are sft"),
    ],
)
def test_an_unknown_command_is_one_line(word, hint, capsys) -> None:
    assert main([word]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith(f"Error: there is no command '{word}': {hint}")


@pytest.fixture
def command_that(monkeypatch):
    """Makes `ask` raise or return what it is given."""

    def set_up(outcome):
        def run(argv):
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setattr("hf_reason.cli.main.module_of", lambda command: SimpleNamespace(main=run))

    return set_up


@pytest.mark.parametrize(
    ("outcome", "code", "line"),
    [
        (None, 0, None),
        (ValueError("no\n  such value"), 2, "Error: no such value"),
        (FileNotFoundError(2, "No such file or directory", "x/y"), 2, "Error: x/y: No such file or directory."),
        (ValueError("pass vote=True to it"), 2, "Error: give --vote true to it"),
        (LaunchError("one process"), 2, "Error: one process"),
        (ForgettingError("forgot too much"), 3, "Error: forgot too much"),
        (KeyboardInterrupt(), 130, "Interrupted."),
    ],
)
def test_exit_codes(command_that, capsys, outcome, code, line) -> None:
    command_that(outcome)
    assert main(["ask"]) == code
    err = capsys.readouterr().err.strip()
    assert err == (line or "") and "Traceback" not in err


def test_renamed_argument_of_a_function_is_one_line(command_that, capsys) -> None:
    from hf_reason._renamed import renamed

    @renamed(old="new")
    def function(new: int = 0) -> int:
        return new

    with pytest.raises(TypeError) as caught:
        function(old=1)
    command_that(caught.value)
    assert main(["ask"]) == 2
    assert "'old'" in capsys.readouterr().err


def test_errors_of_the_program_keep_their_traceback(command_that, monkeypatch) -> None:
    command_that(TypeError("a bug"))
    with pytest.raises(TypeError):
        main(["ask"])
    command_that(ValueError("shown whole"))
    monkeypatch.setenv("HF_REASON_TRACEBACK", "1")
    with pytest.raises(ValueError, match="shown whole"):
        main(["ask"])


def test_ctrl_c_says_what_is_left(tmp_path, capsys) -> None:
    def stopped() -> None:
        errors.on_interrupt(lambda: errors.training_state(str(tmp_path)))
        raise KeyboardInterrupt

    assert errors.run(stopped) == 130
    assert "Nothing was saved yet" in capsys.readouterr().err
    (tmp_path / "checkpoint-4").mkdir()
    (tmp_path / "checkpoint-4" / "trainer_state.json").write_text('{"global_step": 4}')
    assert errors.run(stopped) == 130
    assert "The same command resumes from checkpoint-4." in capsys.readouterr().err


def test_another_process_leaves_the_word_to_the_first(command_that, capsys, monkeypatch) -> None:
    waits = []
    monkeypatch.setattr(errors.time, "sleep", waits.append)
    monkeypatch.setenv("RANK", "1")
    assert errors.run(lambda: (_ for _ in ()).throw(ValueError("also here"))) == 2
    assert waits == [errors._PATIENCE] and "also here" in capsys.readouterr().err


def test_scripts_have_the_same_ends(capsys) -> None:
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise ForgettingError("too much")
    assert stop.value.code == 3 and capsys.readouterr().err == "Error: too much\n"
    with one_line_errors():
        pass


def test_a_reader_that_has_enough_is_no_error() -> None:
    command = f"{sys.executable} -m hf_reason.cli sft --help_all | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert done.stdout.startswith("usage") and done.stderr == ""


def test_recipes_folder_does_not_hide_the_library_evaluate(tmp_path) -> None:
    (tmp_path / "evaluate.py").write_text("raise SystemExit('the script, not the library')")
    (tmp_path / "run.py").write_text(
        "from hf_reason.cli.main import main\nmain(['ask', '--zzz'])\nimport importlib.util as u\n"
        "print(u.find_spec('evaluate').origin)"
    )
    done = subprocess.run([sys.executable, str(tmp_path / "run.py")], capture_output=True, text=True, timeout=60)
    assert str(tmp_path) not in done.stdout and "evaluate" in done.stdout


def test_import_of_bitsandbytes_is_quiet() -> None:
    script = (
        "import logging; from hf_reason.cli.errors import silence_import_noise as s; s(); "
        "log = logging.getLogger('bitsandbytes.backends.cpu.ops'); "
        "log.warning('Failed to load CPU gemm_4bit_forward from x'); log.warning('another')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stderr == "another\n"
