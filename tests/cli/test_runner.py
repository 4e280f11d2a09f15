"""The runner from the command line: what is refused, what is said, and what a finished or stopped run leaves."""

import json
import re
from types import SimpleNamespace

import pytest
from datasets import Dataset, DatasetDict
from tiny import TINY_SIZES, interrupt_at, recipe_arguments

from hf_reason.cli.main import main
from hf_reason.data.synthetic.word_problems import generate_word_problems
from hf_reason.trainers import CoTSFTTrainer

MODEL = {"model_config": TINY_SIZES, "vocab_size": 400, "eval_strategy": "no"}


@pytest.fixture(scope="module")
def dataset(records, tmp_path_factory) -> str:
    """Prepared records without a test split."""
    folder = tmp_path_factory.mktemp("data")
    DatasetDict({"train": Dataset.from_list(records[:20])}).save_to_disk(folder)
    return str(folder)


@pytest.fixture
def sft(tmp_path, dataset, capsys):
    """`sft` in this process: its exit code, output and errors."""

    def run(*extra, name="out", **settings):
        capsys.readouterr()
        given = {**MODEL, "dataset_name": dataset, **settings}
        code = main(["sft", *recipe_arguments(tmp_path, tmp_path / name, *extra, **given)])
        return code, *capsys.readouterr()

    return run


def test_a_run_without_a_test_split_says_so_and_is_finished(sft, tmp_path):
    code, out, err = sft(max_steps=2)
    assert code == 0, err
    assert "Start: 20 training records (0 dropped by max_length=512); " in out and "2 steps of 4 examples" in out
    assert "The model is not evaluated at the end." in err
    assert json.loads((tmp_path / "out" / "run.json").read_text())["finished_at_step"] == 2
    code, out, _ = sft(max_steps=2)
    assert code == 0 and "is finished: nothing to do" in out and "Start:" not in out
    code, _, err = sft(max_steps=3)
    assert code == 2
    assert "finished at step 2, you asked for 3. Remove the folder" in err.strip().splitlines()[-1]
    (tmp_path / "out" / "model.safetensors").unlink()
    code, out, err = sft(max_steps=2)
    assert code == 2 and "nothing to do" not in out
    assert "its weights are gone: there is no model.safetensors" in err.strip().splitlines()[-1]


def test_an_output_folder_that_cannot_be_used_is_one_line(sft, tmp_path, dataset):
    (tmp_path / "file").write_text("x")
    for name, what in (("file", "is a file"), ("file/out", "cannot be made"), (dataset, "is the data folder")):
        code, _, err = sft(name=name)
        assert code == 2 and err.strip().splitlines()[-1].startswith("Error: output_dir ") and what in err, name
    model = tmp_path / "model"
    model.mkdir()
    code, _, err = sft("--model_name_or_path", str(model), name="model")
    assert code == 2 and "is the folder of the model" in err


def test_a_finished_run_that_was_not_pushed_is_pushed_once(sft, tmp_path, monkeypatch):
    pushed = []

    def upload(self, **options):
        pushed.append(options)

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda *a, **k: SimpleNamespace(repo_id="me/out"))
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload)
    assert sft(max_steps=1)[0] == 0 and not pushed
    for _ in range(2):
        code, out, err = sft("--push_to_hub", "true", "--hub_model_id", "me/out", max_steps=1)
        assert code == 0, err
    (options,) = pushed
    assert options["repo_id"] == "me/out" and {"run.json", "training_args.bin"} <= set(options["ignore_patterns"])
    assert json.loads((tmp_path / "out" / "run.json").read_text())["pushed"] is True


def test_most_of_the_records_dropped_is_refused_unless_allowed(sft):
    code, _, err = sft(max_length=100)
    assert code == 2 and re.search("max_dropped_ratio[= ]0.2", err.strip().splitlines()[-1])
    code, out, err = sft(max_length=100, max_dropped_ratio=1.0, max_steps=1)
    assert code == 0, err
    assert "dropped by max_length=100" in out and "(0 dropped" not in out


def test_ctrl_c_says_what_is_left(sft, tmp_path, monkeypatch):
    for step, left in ((1, "Nothing was saved yet"), (3, "resumes from checkpoint-2")):
        with monkeypatch.context() as patch:
            interrupt_at(patch, CoTSFTTrainer, step=step)
            code, _, err = sft(max_steps=4, save_steps=2)
        assert code == 130 and left in err
    code, out, _ = sft(max_steps=4, save_steps=2)
    assert code == 0 and f"Resuming from {tmp_path / 'out'}/checkpoint-2" in out


def test_templates_are_counted(sft):
    code, out, err = sft(max_steps=1, instructions="default")
    assert code == 0, err
    assert "template used for 20 of 20 records" in out


def test_a_raw_file_is_trained_on(sft, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hf_home"))
    file = tmp_path / "finance.jsonl"
    rows = [{name: row[name] for name in ("context", "steps", "answer")} for row in generate_word_problems(40, seed=3)]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    code, out, err = sft("--domain", "finance", dataset_name=[str(file)], max_steps=1)
    assert code == 0, err
    assert f"{file} (raw data): 40 records, " in out and "the domain of each is finance" in out
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| domain | finance |" in card and str(tmp_path) not in card


def test_a_distillation_without_a_student_says_how_to_make_one(tmp_path, dataset, capsys, tiny_model, tokenizer):
    tiny_model.save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    settings = {
        "dataset_name": dataset,
        "teacher_model_name_or_path": str(tmp_path / "teacher"),
        "eval_strategy": "no",
    }
    assert main(["distill", *recipe_arguments(tmp_path, tmp_path / "out", **settings)]) == 2
    assert "There is no student. Give model_name_or_path; or student_layers" in capsys.readouterr().err
