"""`dataset_name`: prepared data as it is, raw data prepared into the cache, once, by whoever comes first."""

import json
import subprocess
import sys
from importlib import import_module

import pytest
from datasets import Dataset, DatasetDict

from hf_reason.cli.arguments import DataArguments
from hf_reason.cli.generation_arguments import EvaluationArguments
from hf_reason.cli.inputs import raw_data
from hf_reason.cli.inputs.datasets import load_evaluation_records, load_records, load_splits, places_of
from hf_reason.cli.inputs.raw_data import cache_folder, is_raw, prepared_places
from hf_reason.data import DataError, PrepareConfig
from hf_reason.data.synthetic.word_problems import generate_word_problems
from hf_reason.trainers import CoTSFTConfig


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    """Where raw data is prepared."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hf_home"))
    return tmp_path / "hf_home" / "hf_reason"


def _write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def raw(tmp_path):
    """A file of 50 word problems without a domain."""
    rows = [{name: row[name] for name in ("context", "steps", "answer")} for row in generate_word_problems(50, seed=5)]
    return _write(tmp_path / "raw" / "traces.jsonl", rows)


@pytest.fixture
def prepared(tmp_path, records):
    """A prepared folder."""
    rows = Dataset.from_list(records)
    DatasetDict({"train": rows, "test": rows.select(range(3))}).save_to_disk(tmp_path / "prepared")
    return str(tmp_path / "prepared")


def test_a_raw_file_is_prepared_once_and_said_so(raw, cache_home, capsys):
    (place,) = prepared_places([raw])
    said = capsys.readouterr()
    assert f"{raw} (raw data): 50 records, " in said.out and "kept; dropped: " in said.out
    assert f"{place}/report.html" in said.out and place.startswith(str(cache_home))
    assert {"train", "validation", "test"} <= {path.name for path in (cache_home / place).iterdir()}
    made = {path: path.stat().st_mtime_ns for path in cache_home.rglob("*.arrow")}
    assert prepared_places([raw]) == [place]
    assert "(prepared before)" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in cache_home.rglob("*.arrow")} == made


def test_other_content_and_other_settings_have_another_folder(raw, tmp_path):
    folders = {
        cache_folder([raw], PrepareConfig(**options)) for options in ({}, {"domain": "math"}, {"test_size": 0.2})
    }
    assert len(folders) == 3 and cache_folder([raw], PrepareConfig()) in folders
    lines = (tmp_path / "raw" / "traces.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "raw" / "traces.jsonl").write_text("".join(lines[:-1]))
    assert cache_folder([raw], PrepareConfig()) not in folders


def test_the_domain_tags_raw_records_and_chooses_prepared_ones(raw, prepared, capsys):
    places = prepared_places([raw], domain="finance")
    assert "the domain of each is finance" in capsys.readouterr().out
    assert set(load_records(places, "train", "finance")["domain"]) == {"finance"}
    assert prepared_places([prepared], domain="finance") == [prepared]
    with pytest.raises(DataError, match="no record of the domain 'finance'"):
        load_records([prepared], "train", "finance")


def test_a_folder_of_raw_files_and_prepared_data_together(raw, prepared, tmp_path):
    folder = str(tmp_path / "raw")
    assert is_raw(folder) and is_raw(raw) and not is_raw(prepared)
    places = prepared_places([folder, prepared], speaks=False)
    assert places[0] == prepared and len(places) == 2
    together = load_records(places, "train")
    assert len(together) == len(set(together["id"])) > len(load_records([prepared], "train"))


def test_a_broken_row_is_an_error_unless_skipped(tmp_path, raw, capsys):
    with open(raw, "a", encoding="utf-8") as file:
        file.write("{broken\n")
    with pytest.raises(DataError, match="traces.jsonl"):
        prepared_places([raw])
    prepared_places([raw], skip_broken=True)
    assert "51 records" in capsys.readouterr().out


def test_a_preparation_that_was_killed_is_resumed(raw, cache_home, monkeypatch):
    from hf_reason.data.prepare import pipeline

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_finish", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepared_places([raw], speaks=False)
    (work,) = cache_home.glob("traces-*/.work")
    assert raw_data.finished_report(work.parent) is None
    (place,) = prepared_places([raw], speaks=False)
    assert place == str(work.parent) and not work.exists()


def test_two_processes_at_once_prepare_it_once(raw, tmp_path):
    code = (
        "import sys; from hf_reason.cli.inputs.raw_data import prepared_places; print(prepared_places([sys.argv[1]]))"
    )
    environment = {"HF_HOME": str(tmp_path / "shared"), "PATH": "", "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, raw],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert said[0][0].splitlines()[-1] == said[1][0].splitlines()[-1]
    assert sorted("Preparing the raw data" in err for _, err in said) == [False, True]


def test_a_failed_preparation_is_not_read_as_raw_data(tmp_path, records):
    from hf_reason.data import FilterConfig, prepare

    source = _write(tmp_path / "short.jsonl", [{"context": "1+1=?", "steps": ["1+1=2"], "answer": "2"}])
    with pytest.raises(DataError):
        prepare([source], tmp_path / "nothing", filters=FilterConfig(min_steps=50), progress=False)
    with pytest.raises(DataError, match="kept none of 1 records.*report.html says which filters"):
        prepared_places([str(tmp_path / "nothing")])


def test_what_is_not_there_is_said_by_the_loader():
    assert prepared_places(["no/such/folder"]) == ["no/such/folder"]
    with pytest.raises(DataError, match="no such folder"):
        load_records(["no/such/folder"], "train")


def test_an_empty_test_split_and_the_sample_are_told(tmp_path, records, capsys, monkeypatch):
    from datasets import Dataset

    from hf_reason.data import FilterConfig, prepare

    few = [{name: row[name] for name in ("context", "steps", "answer")} for row in records[:2]]
    loose = FilterConfig(min_steps=1, min_chars=1)
    prepare(_write(tmp_path / "few.jsonl", few), tmp_path / "data", filters=loose, test_size=0.01, progress=False)
    rows = Dataset.from_list(records[:4])
    args = CoTSFTConfig(str(tmp_path / "out"), report_to="none", use_cpu=True, bf16=False, eval_strategy="no")
    splits = load_splits(DataArguments(dataset_name=[str(tmp_path / "data")]), EvaluationArguments(), args)
    err = capsys.readouterr().err
    assert splits.test is None and "test split has no records" in err and "--test_size" in err
    assert "built-in sample" not in err
    assert prepared_places([]) == [] and "the built-in sample is used" in capsys.readouterr().err
    monkeypatch.setattr("hf_reason.cli.inputs.datasets.load_records", lambda *given: rows)
    assert len(load_evaluation_records(None)) == 4 and "the built-in sample is used" in capsys.readouterr().err


def test_training_sees_three_splits_of_a_raw_file(tmp_path, raw):
    args = CoTSFTConfig(str(tmp_path / "out"), report_to="none", use_cpu=True, bf16=False, eval_strategy="steps")
    data = DataArguments(dataset_name=raw, max_train_records=12)
    splits = load_splits(data, EvaluationArguments(max_test_records=2), args)
    assert len(splits.train) == 12 and len(splits.validation) > 0 and len(splits.test) == 2


def test_evaluation_reads_raw_questions_and_answers_without_chains(tmp_path, prepared):
    rows = [{"问题": f"{n}加{n}等于几?", "答案": str(2 * n)} for n in range(1, 8)]
    file = _write(tmp_path / "exam.jsonl", rows)
    records = load_evaluation_records([file], domain="math", max_records=5)
    assert records["answer"] == ["2", "4", "6", "8", "10"] and set(records["domain"]) == {"math"}
    assert records["steps"] == [[]] * 5
    assert len(load_evaluation_records([prepared], split="test")) == 3
    with pytest.raises(DataError, match="one after another"):
        load_evaluation_records([prepared, file])


def test_tags_of_thoughts_are_named_and_read_by_every_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(import_module("hf_reason.data.prepare.report_plot"), "draw_report", lambda report: b"png")
    chain = "先看题目里的已知数。\n再把两个数相加。\n"
    rows = [
        {
            "question": f"{n}加{n * n}等于几?",
            "answer": f"<{tag}>\n{chain}{n}+{n * n}={n + n * n}\n</{tag}>\n\n{n + n * n}",
        }
        for n, tag in enumerate(["think"] * 4 + ["plan"] * 4, start=11)
    ]
    file = _write(tmp_path / "tags.jsonl", rows)
    prepared_places([file])
    assert "Note: 4 traces carry <plan>…</plan>" in capsys.readouterr().out
    args = CoTSFTConfig(str(tmp_path / "out"), report_to="none", use_cpu=True, bf16=False)
    places = places_of(DataArguments(dataset_name=file, thought_tags="plan"), args)
    said = capsys.readouterr().out
    assert "8 records, 8 kept" in said and "Note" not in said
    assert all(len(record["steps"]) == 3 for record in load_records(places, "train"))
    records = load_evaluation_records([file], thought_tags=["plan"])
    assert [record["answer"] for record in records] == [str(n + n * n) for n in range(11, 19)]
