"""`compress` as a user runs it: the whole path, stopped and continued in each stage, refused, and what cannot be."""

import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from safetensors.torch import load_file
from tiny import save_model, tiny_qwen2
from transformers import AutoModelForCausalLM

from hf_reason.cli import errors
from hf_reason.cli.main import main
from hf_reason.cli.stages import path, process
from hf_reason.cli.stages.measuring import measure_stage
from hf_reason.compression import pruned_fraction

DISTILL = {
    "student_layers": 1,
    "max_steps": 4,
    "save_steps": 2,
    "eval_strategy": "no",
    "per_device_train_batch_size": 4,
    "max_length": 512,
    "bf16": False,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
    "report_to": "none",
}
PRUNE = {"ratio": 0.25, "recover_steps": 2, "recover_batch_size": 2, "recover_max_length": 512}
NF4 = {"method": "nf4"}


@pytest.fixture
def place(tmp_path, tokenizer, dataset, monkeypatch):
    wide = tiny_qwen2(tokenizer, hidden_size=64, intermediate_size=64)
    save_model(tmp_path / "teacher", wide, tokenizer)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def config(place, dataset):
    """Write the file; sections that are `None` are left out."""

    def write(distill=None, prune=None, quantize=None, **common):
        settings = {
            "teacher_model_name_or_path": "teacher",
            "dataset_name": dataset,
            "output_dir": "small",
            "max_records": 2,
            "max_completion_length": 4,
            "max_drop": 100,
            "use_cpu": True,
            **common,
        }
        settings |= {
            name: section
            for name, section in (("distill", distill), ("prune", prune), ("quantize", quantize))
            if section is not None
        }
        Path("path.yaml").write_text(yaml.safe_dump(settings))

    return write


def _name(words):
    """The stage that is started, or the model that is measured."""
    return f"measure {Path(words[1]).stem.removesuffix('-measuring')}" if words[0] == "measure" else words[0]


@pytest.fixture
def command(place, monkeypatch, capsys):
    """`compress` with its stages in this process: code, stdout, stderr; `command.calls` has the stages that ran."""

    def run_stage(words, lock, title, hint):
        run.calls.append(_name(words))
        message = errors._interrupt_message
        with monkeypatch.context() as patch:
            patch.setenv(errors.PLACE, title)
            patch.setenv(errors.HINT, hint)
            code = errors.run(lambda: measure_stage(words[1])) if words[0] == "measure" else main(words)
        errors.on_interrupt(message)
        return code

    monkeypatch.setattr(path, "run_stage", run_stage)

    def run(*arguments):
        run.calls = []
        code = main(["compress", "--config", "path.yaml", *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def order(command, monkeypatch):
    """`command` with stages that only write what a stage leaves; `order.stop`: which end by Ctrl-C or are refused."""
    order = command
    order.stop = {}
    figures = {"answer_accuracy": 0.5}

    def run_stage(words, lock, title, hint):
        order.calls.append(_name(words))
        if words[0] == "measure":
            task = json.loads(Path(words[1]).read_text())
            if order.stop.get(_name(words)) != errors.INTERRUPTED:
                Path(task["folder"]).mkdir()
                Path(task["folder"], "figures.json").write_text(
                    json.dumps({"settings": task["settings"], "figures": figures})
                )
            return order.stop.get(_name(words), 0)
        made = Path(json.loads(Path(words[2]).read_text())["output_dir"])
        code = order.stop.get(words[0], 0)
        partial = made.with_name(f"{made.name}.partial")
        (partial / "model").mkdir(parents=True, exist_ok=True)
        order.calls[-1] += " again" if (partial / "model/kept").is_file() else ""
        if code != errors.INTERRUPTED:
            target = made.with_name(f"{made.name}-refused") if code else made
            (partial / "model").rename(target)
            (target / "kept").write_text("")
            (target / "model.safetensors").write_text("")
            (target / "run.json").write_text('{"settings": {}, "finished_at_step": 4}')
            report = {"after": figures, "failures": ["answer accuracy fell"]}
            (target / "compression.json").write_text(json.dumps(report))
        return code

    monkeypatch.setattr(path, "run_stage", run_stage)
    monkeypatch.setattr(path, "write_result", lambda *_: None)
    return order


@pytest.mark.slow
def test_the_whole_path(command, config, place):
    config(DISTILL, PRUNE, NF4)
    code, out, err = command()
    assert code == 0, err
    assert command.calls == ["measure teacher", "distill", "measure distill", "prune", "quantize"]
    # each model once: the gates find the figures of the stage before
    assert out.count("Measuring ") == 5  # the fifth: the pruned model before its recovery
    assert [line.split() for line in out.splitlines() if line.split()[:1] == ["teacher"]][-1] == [
        "teacher",
        "distill",
        "prune",
        "quantize",
    ]
    model = AutoModelForCausalLM.from_pretrained("small")
    assert model.is_quantized and model.config.num_hidden_layers == 1
    assert pruned_fraction(AutoModelForCausalLM.from_pretrained("small-stages/prune")) == pytest.approx(0.25, abs=0.01)
    report = json.loads(Path("small/compression.json").read_text())
    assert list(report["models"]) == ["teacher", "distill", "prune", "quantize"] and report["passed"]
    assert report["stages"]["prune"]["after"] == report["stages"]["quantize"]["before"] == report["models"]["prune"]
    assert report["stages"]["prune"]["before"] == report["models"]["distill"]
    assert report["settings"]["distill.student_layers"] == 1 and report["settings"]["prune.ratio"] == 0.25
    card = Path("small/README.md").read_text()
    assert "| teacher | distill | prune | quantize |" in card and "quantize.method" in card
    public = "".join(file.read_text() for file in (*Path("small").glob("*.json"), *Path("small").glob("*.md")))
    assert str(place) not in public and "teacher" in public
    files = {file.name for file in Path("small").iterdir()}
    assert not files & {"run.json", "training_args.bin", "trainer_state.json.tmp"}
    code, out, _ = command()
    assert code == 0 and "small is finished: nothing to do" in out and command.calls == []


@pytest.mark.slow
def test_a_student_alone_is_a_path(command, config):
    config(DISTILL)
    code, out, err = command()
    assert code == 0, err
    assert AutoModelForCausalLM.from_pretrained("small").config.num_hidden_layers == 1
    assert not list(Path("small").glob("checkpoint-*")) and Path("small/evaluation/predictions.jsonl").is_file()
    report = json.loads(Path("small/compression.json").read_text())
    assert report["against_teacher"]["p_value"] <= 1 and list(report["models"]) == ["teacher", "distill"]


@pytest.mark.slow
def test_sections_from_the_command_line_alone(command, config):
    config()
    code, out, err = command("--prune.ratio", "0.5", "--prune.modules=feed_forward")
    assert code == 0, err
    assert command.calls == ["measure teacher", "prune"]
    assert pruned_fraction(AutoModelForCausalLM.from_pretrained("small"), "feed_forward") == 0.5


def test_an_empty_section_has_the_defaults(order, config):
    config()
    with Path("path.yaml").open("a") as file:
        file.write("prune:\n")
    code, out, err = order("--prune.modules", "all", "--quantize.method=nf4")
    assert code == 0, err
    assert order.calls == ["measure teacher", "prune", "quantize"]
    assert json.loads(Path("small-stages/path.json").read_text())["prune"]["shaping"]["ratio"] == 0.2


ALL = ["measure teacher", "distill", "measure distill", "prune", "quantize"]


@pytest.mark.parametrize("stage", ALL)
def test_interrupted_it_says_what_is_left_and_continues(order, config, stage):
    config(DISTILL, PRUNE, NF4)
    order.stop = {stage: errors.INTERRUPTED}
    code, _, err = order()
    made = [name for name in ("distill", "prune", "quantize") if name in order.calls[:-1]]
    following = "distill" if not made else "prune" if made == ["distill"] else "quantize"
    assert code == 130 and order.calls[-1] == stage
    finished = ", ".join(made) or "nothing yet"
    assert f"Interrupted. Finished: {finished}. The same command continues with {following}." in err
    order.stop = {}
    code, out, err = order()
    assert code == 0, err
    assert order.calls == ALL[ALL.index(stage) :]
    assert ("distill (stage 1 of 3): finished before." in out) == ("distill" in made)


def test_finished_stages_of_other_settings_are_refused(order, config):
    config(DISTILL, {"ratio": 0.25})
    order.stop = {"prune": errors.INTERRUPTED}
    order()
    config({**DISTILL, "max_steps": 6}, {"ratio": 0.25})
    code, _, err = order()
    assert code == 2 and "small-stages/distill was made with max_steps 4, not 6" in err
    assert "remove small-stages/distill to make it again" in err
    config({**DISTILL, "logging_steps": 3}, {"ratio": 0.5}, batch_size=1)  # nothing that a finished stage depends on
    order.stop = {}
    code, _, err = order()
    assert code == 0 and order.calls == ["prune"], err
    config({**DISTILL, "logging_steps": 3}, {"ratio": 0.5}, max_records=1)
    code, _, err = order()
    assert code == 2 and "small-stages/prune was made with max_records 2, not 1" in err


def test_other_problems_are_measured_anew(order, config):
    config(DISTILL, {})
    order.stop = {"prune": errors.INTERRUPTED}
    order()
    config(DISTILL, {}, max_records=1)
    order.stop = {}
    assert order()[0] == 0
    assert order.calls == ["measure teacher", "measure distill", "prune"]


def test_a_refused_stage_is_not_made_again_as_it_was(order, config):
    config(DISTILL, {"ratio": 0.5}, NF4, max_drop=5)
    order.stop = {"prune": errors.REFUSED}
    code, _, err = order()
    assert code == 3 and order.calls[-1] == "prune" and not Path("small").exists()
    code, _, err = order()  # nothing has changed: the same word, and no work
    assert code == 3 and order.calls == []
    assert "Error: prune (stage 2 of 3): the model in small-stages/prune-refused is refused: answer accuracy" in err
    config(DISTILL, {"ratio": 0.4}, NF4, max_drop=5)  # another setting: made again
    code, out, _ = order()
    assert code == 3 and order.calls == ["prune"] and "was made with other settings and is replaced" in out
    config(DISTILL, {"ratio": 0.4, "max_drop": 20}, NF4, max_drop=5)  # another limit: judged again
    order.stop = {}
    code, out, err = order()
    assert code == 0 and order.calls == ["prune again", "quantize"], err


def test_what_was_made_of_a_model_that_is_gone_is_not_used(order, config):
    config(DISTILL, {"ratio": 0.25}, NF4)
    order.stop = {"quantize": errors.INTERRUPTED}
    order()
    shutil.rmtree("small-stages/distill")
    order.stop = {}
    code, _, err = order()
    assert code == 2 and order.calls == [], err
    assert "small-stages/prune was made of another model than the one before it now: remove small-stages/prune" in err
    shutil.rmtree("small-stages/prune")
    kept = Path("small-stages/quantize.partial/model/kept")
    kept.write_text("of the model that is gone")
    code, _, err = order()
    assert code == 0 and order.calls == ["distill", "measure distill", "prune", "quantize"], err


@pytest.mark.slow
def test_a_refused_stage_stops_the_path_and_is_judged_again(command, config, monkeypatch):
    from hf_reason.compression import gate

    compare = gate.compare

    def worse(before, after, **limits):
        before.result.answer_accuracy, after.result.answer_accuracy = 1.0, 0.9
        return compare(before, after, **limits)

    monkeypatch.setattr(gate, "compare", worse)
    config(None, {"ratio": 0.5}, NF4, max_drop=5)
    code, _, err = command()
    last = err.strip().splitlines()[-1]
    assert code == 3 and last.startswith("Error: prune (stage 1 of 2): The compressed model is refused: answer acc")
    assert "It stays in small-stages/prune-refused" in last and "Finished: nothing yet." in last
    assert "section prune" in last and "quantize" not in command.calls
    code, out, err = command("--max_drop", "20")
    assert code == 0, err
    assert command.calls == ["prune", "quantize"] and "weights are zero now" not in out
    assert pruned_fraction(AutoModelForCausalLM.from_pretrained("small-stages/prune")) == 0.5


@pytest.mark.parametrize(
    ("sections", "arguments", "message"),
    [
        ({}, (), "there is nothing to do. Give one section at least: distill, prune, quantize."),
        ({"prune": {"rato": 0.1}}, (), "path.yaml, prune: there is no argument rato: did you mean ratio?"),
        ({"prune": {"ratio": 2}}, (), "path.yaml, prune: ratio is a fraction between 0 and 1, got 2"),
        ({"prune": {"ratio": "much"}}, (), "path.yaml, prune: ratio must be a number, got 'much'"),
        ({"prune": {"ratio": 0.1}}, ("--prune.pattern", "2:4"), "--prune.ratio 0.1 and --prune.pattern 2:4 exclude"),
        ({"prune": {}}, ("--prune.rato", "1"), "prune: there is no argument --rato: did you mean --prune.ratio?"),
        ({"quantize": {"bits": 5}}, (), "path.yaml, quantize: bits must be one of 2, 3, 4, 8, got 5"),
        ({"quantize": {"method": "nf4", "bits": 8}}, (), "only gptq has it; nf4 has bits and groups of its own"),
        ({"distill": {"studentlayers": 1}}, (), "path.yaml, distill: there is no argument studentlayers: did you"),
        ({"distill": {"lora_rank": 4}}, (), "did you mean lora_r?"),
        ({"prune": {"output_dir": "x"}}, (), "path.yaml, prune: output_dir is set by the path, remove it"),
        ({"quantize": {}}, ("--quantize.model_name_or_path", "x"), "model_name_or_path is set by the path"),
        ({"prune": {"max_records": 5}}, (), "prune: max_records is common to all stages"),
        ({"prune": 0.2}, (), "prune must be a dictionary"),
        ({"prune": {}, "quantise": {}}, (), "there is no argument quantise: did you mean quantize?"),
        ({"prune": {}}, ("--teacher_model_name_or_path", "./nowhere"), "The teacher ./nowhere: there is no such"),
        ({"prune": {}}, ("--teacher_model_name_or_path", "self"), "is no model that can become smaller"),
        ({"prune": {}}, ("--output_dir", "teacher"), "output_dir teacher is the folder of the model teacher"),
        ({"prune": {}}, ("--dataset_name", "no/such/data"), "no/such/data"),
    ],
)
def test_errors_are_one_line_with_the_fix(command, config, sections, arguments, message):
    known = {name: sections[name] for name in ("distill", "prune", "quantize") if name in sections}
    config(**known, **{name: value for name, value in sections.items() if name not in known})
    code, _, err = command(*arguments)
    last = err.strip().splitlines()[-1]
    assert code == 2 and last.startswith("Error: ") and message in last and "Traceback" not in err, err
    assert not Path("small").exists()


def test_a_missing_extra_is_said_before_the_first_stage(order, config, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config(DISTILL, {}, {"method": "gptq"})
    code, _, err = order()
    assert code == 2 and order.calls == []
    assert "path.yaml, quantize: method gptq needs the extra gptq: pip install 'hf_reason[gptq]'" in err


def test_a_folder_of_something_else_is_left_alone(command, config):
    config(None, {})
    Path("small").mkdir()
    Path("small/notes.txt").write_text("mine")
    code, _, err = command()
    assert code == 2 and "output_dir small has files of something else" in err


def test_two_commands_do_not_work_in_one_folder(command, config, monkeypatch, place):
    config(None, {})
    monkeypatch.setattr(process, "_PATIENCE", 0.1)
    with process.only_one(Path("small-stages")):
        code, _, err = command()
    assert code == 2 and "another command works in small-stages" in err


def test_a_stage_that_a_signal_ends_is_named(command, config, monkeypatch):
    config(None, {})
    monkeypatch.setattr(path, "run_stage", lambda *_: 137)
    code, _, err = command()
    assert code == 137 and "measuring teacher was ended by signal 9 (is there too little memory?)" in err


def _start(*arguments):
    # to a file: a full pipe would stop it
    with Path("log.txt").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "hf_reason.cli", "compress", "--config", "path.yaml", *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
        )


@pytest.mark.slow
def test_killed_at_random_moments_of_each_stage_it_ends_as_unbroken(config, place):
    prune = {**PRUNE, "recover_steps": 8}
    config({**DISTILL, "max_steps": 8}, prune, NF4)
    assert _start("--output_dir", "whole").wait(900) == 0, Path("log.txt").read_text()
    moments = random.Random(0)
    for stage in ("teacher-measuring.json", "distill", "distill-measuring.json", "prune.partial", "quantize.partial"):
        running = _start()
        deadline = time.monotonic() + 300
        while not Path("small-stages", stage).exists() and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 6))
        children = psutil.Process(running.pid).children(recursive=True) if running.poll() is None else []
        running.send_signal(signal.SIGKILL)
        running.wait()
        _, alive = psutil.wait_procs(children, timeout=15)
        assert not alive, "a stage outlived the command"
    assert _start().wait(900) == 0, Path("log.txt").read_text()
    for left, right in (("whole", "small"), ("whole-stages/distill", "small-stages/distill")):
        one, other = (load_file(f"{folder}/model.safetensors") for folder in (left, right))
        assert one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)
        assert Path(left, "model.safetensors").read_bytes() == Path(right, "model.safetensors").read_bytes()
    reports = [json.loads(Path(folder, "compression.json").read_text()) for folder in ("whole", "small")]
    for report in reports:
        for figures in report["models"].values():
            figures.pop("tokens_per_second")
    assert reports[0]["models"] == reports[1]["models"] and reports[0]["settings"] == reports[1]["settings"]


@pytest.mark.slow
def test_ctrl_c_of_the_terminal_and_of_the_command_alone(config, place):
    config({**DISTILL, "max_steps": 2000, "save_steps": 5})
    for alone in (False, True):
        running = subprocess.Popen(
            [sys.executable, "-m", "hf_reason.cli", "compress", "--config", "path.yaml"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        whole = "checkpoint-*/trainer_state.json"  # is written last
        before = set(Path("small-stages/distill").glob(whole))
        deadline = time.monotonic() + 300
        while set(Path("small-stages/distill").glob(whole)) <= before and time.monotonic() < deadline:
            time.sleep(0.1)
        if alone:
            running.send_signal(signal.SIGINT)
        else:
            os.killpg(running.pid, signal.SIGINT)
        err = running.communicate(timeout=240)[1]
        assert running.returncode == 130 and "Traceback" not in err, err
        assert "The same command resumes from checkpoint-" in err
        assert "Interrupted. Finished: nothing yet. The same command continues with distill." in err
