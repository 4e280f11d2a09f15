"""`prepare`: what goes in comes out or is counted; the same bytes however the run went."""

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from datasets import load_from_disk
from raw_files import folder_hash, raw_trace, raw_traces, write_jsonl

from hf_reason.data import DataError, prepare
from hf_reason.data.clean.filters import FILTER_NAMES, FilterConfig
from hf_reason.data.prepare import pipeline as pipeline_module
from hf_reason.data.prepare.checkpoint import WorkFolder
from hf_reason.data.prepare.chunks import ChunkFiles
from hf_reason.data.record import RECORD_FIELDS, record_features


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return raw_traces(tmp_path_factory.mktemp("raw") / "traces.jsonl")


@pytest.fixture(scope="module")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare(raw, folder, validation_size=0.1, test_size=0.1, progress=False)
    return folder


def again(raw: Path, folder: Path, **changes):
    return prepare(raw, folder, **{"validation_size": 0.1, "test_size": 0.1, "progress": False} | changes)


def test_report_adds_up_and_data_set_loads(prepared: Path):
    report = json.loads((prepared / "report.json").read_text(encoding="utf-8"))
    counts = report["counts"]
    others = ("exact_duplicate", "near_duplicate", "contaminated", "unreadable", "broken_image")
    assert set(counts["filters"]) == {*FILTER_NAMES, *others}
    assert counts["in"] == 90 == counts["out"] + sum(counts["filters"].values())
    assert counts["filters"]["exact_duplicate"] == 5
    assert counts["filters"]["near_duplicate"] == 5
    assert counts["out"] == 75
    dropped = {name: count for name, count in counts["filters"].items() if count}
    assert report["files"] == {"traces.jsonl": {"in": 90, "out": 75, "filters": dropped}}
    assert sum(report["splits"].values()) == sum(report["languages"].values()) == 75
    assert sum(found["all"] for found in report["domains"].values()) == 75
    for name, taken in counts["filters"].items():
        assert len(report["examples"].get(name, [])) == min(3, taken), name
    assert all(example["source"].startswith("traces.jsonl#") for example in report["examples"]["near_duplicate"])

    data = load_from_disk(str(prepared))
    assert {split: len(rows) for split, rows in data.items()} == report["splits"]
    assert data["train"].features == record_features()
    assert data["train"].column_names == list(RECORD_FIELDS)
    numbers = [int(source.rpartition("#")[2]) for source in data["train"]["source"]]
    assert numbers == sorted(numbers), "records keep the order of the file"


def test_same_folder_as_the_library_writes(prepared: Path, tmp_path: Path):
    load_from_disk(str(prepared)).save_to_disk(str(tmp_path))
    ours = {name for name in folder_hash(prepared) if not name.startswith("report.")}
    assert ours == set(folder_hash(tmp_path))
    state = json.loads((prepared / "train" / "state.json").read_text())
    assert state.keys() == json.loads((tmp_path / "train" / "state.json").read_text()).keys()


def test_report_names_no_place_and_no_date(prepared: Path):
    page = (prepared / "report.html").read_text(encoding="utf-8")
    text = (prepared / "report.json").read_text(encoding="utf-8")
    for content in (text, page):
        assert str(prepared.parent) not in content
        assert os.path.expanduser("~") not in content
    assert 'src="http' not in page and 'href="http' not in page and page.count("<script") == 1
    assert (prepared / "report.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("changes", [{"chunk_size": 7}, {"num_proc": 2, "chunk_size": 20}])
def test_same_bytes_for_every_chunk_size_and_number_of_processes(raw, prepared, tmp_path, changes):
    again(raw, tmp_path, **changes)
    assert folder_hash(tmp_path) == folder_hash(prepared)


@pytest.mark.parametrize("place", ["chunk", "after the records", "final"])
def test_goes_on_where_it_failed_with_the_same_bytes(raw, prepared, tmp_path, monkeypatch, place):
    class Killed(BaseException):
        pass

    judged: list[int] = []
    add, judge = ChunkFiles.add, pipeline_module.process_chunks

    def failing_add(self, index, *rest):
        if place == "chunk" and index == 2:
            raise Killed
        add(self, index, *rest)
        if place == "after the records" and index == 3:
            (self.path / "chunk-000003.json").unlink()
            raise Killed

    def counting_judge(chunks, *rest):
        def counted():
            for index, chunk in chunks:
                judged.append(len(chunk.traces))
                yield index, chunk

        yield from judge(counted(), *rest)

    def failing_move(source, target):
        if place == "final" and str(source).endswith("report.html"):
            raise Killed
        replace(source, target)

    replace = os.replace
    monkeypatch.setattr(ChunkFiles, "add", failing_add)
    monkeypatch.setattr(os, "replace", failing_move)
    with pytest.raises(Killed):
        again(raw, tmp_path, chunk_size=16)
    monkeypatch.undo()
    monkeypatch.setattr(pipeline_module, "process_chunks", counting_judge)
    again(raw, tmp_path, chunk_size=99)  # the size it began with is kept
    assert judged == {"chunk": [16, 16, 16, 10], "after the records": [16, 16, 10], "final": []}[place]
    assert folder_hash(tmp_path) == folder_hash(prepared)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_for_real_leaves_no_workers_and_goes_on(raw, prepared, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, os, signal, sys
            from hf_reason.data import prepare
            from hf_reason.data.prepare import pipeline

            process_chunks = pipeline.process_chunks

            def killed(*args):
                for index, count in enumerate(process_chunks(*args)):
                    yield count
                    if index == 1:
                        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
                        os.kill(os.getpid(), signal.SIGKILL)

            if __name__ == "__main__":
                pipeline.process_chunks = killed
                prepare(sys.argv[1], sys.argv[2], validation_size=0.1, test_size=0.1, num_proc=2, chunk_size=4)
            """
        )
    )
    output = tmp_path / "out"
    run = subprocess.run([sys.executable, str(script), str(raw), str(output)], stdout=subprocess.PIPE, text=True)
    assert run.returncode == -signal.SIGKILL
    workers = [int(pid) for pid in run.stdout.split()]
    assert workers
    assert 2 <= len(list((output / ".work").glob("chunk-*.json"))) < 20  # workers store by themselves
    deadline = time.monotonic() + 20
    while any(is_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(is_alive(pid) for pid in workers), "workers outlived the main process"
    again(raw, output)
    assert folder_hash(output) == folder_hash(prepared)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # a zombie that nobody has waited for yet is not alive
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.parametrize("moment", ["process_chunks", "find_duplicates", "assign_splits", "write_report"])
def test_ctrl_c_says_how_to_go_on(moment, raw, prepared, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline_module, moment, interrupted)
    with pytest.raises(KeyboardInterrupt):
        again(raw, tmp_path)
    assert "Run the same command again to resume" in capsys.readouterr().err
    monkeypatch.undo()
    again(raw, tmp_path)
    assert folder_hash(tmp_path) == folder_hash(prepared)


def test_finished_result_is_left_alone(raw, prepared, tmp_path, monkeypatch, capsys):
    report = again(raw, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr(pipeline_module, "process_chunks", None)
    assert again(raw, tmp_path, num_proc=2) == report
    assert "up to date" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_other_settings_are_refused_and_overwrite_starts_anew(raw, tmp_path):
    keep = tmp_path / "notes.txt"
    keep.write_text("mine")
    again(raw, tmp_path)
    with pytest.raises(DataError, match=r"test_size: 0.1 -> 0.2.*--overwrite"):
        again(raw, tmp_path, test_size=0.2)
    more = write_jsonl(tmp_path.parent / "more.jsonl", [raw_trace(5000)])
    with pytest.raises(DataError, match=r"sources\.1\.name: 'nothing' -> 'more.jsonl'"):
        prepare([raw, more], tmp_path, progress=False)
    report = again(raw, tmp_path, test_size=0, overwrite=True)
    assert set(report["splits"]) == {"train", "validation"}
    assert not (tmp_path / "test").exists()
    assert keep.read_text() == "mine"


def test_unfinished_run_with_other_settings_is_refused(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline_module, "_finish", None)
    with pytest.raises(TypeError):
        again(raw, tmp_path)
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"unfinished run .*history: 'drop' -> 'keep'.*--overwrite"):
        again(raw, tmp_path, history="keep")
    assert again(raw, tmp_path, history="keep", overwrite=True)["counts"]["out"] == 75


def test_two_runs_in_one_folder_are_refused(raw, tmp_path):
    settings = {"any": 1}
    with WorkFolder(tmp_path, settings, 10), pytest.raises(DataError, match="another run"):
        WorkFolder(tmp_path, settings, 10)


def test_folders_of_others_are_not_touched(raw, tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="did not write"):
        prepare(raw, tmp_path, overwrite=True, progress=False)
    assert (tmp_path / "train").is_dir()


def test_a_result_of_another_version_is_refused_and_can_be_overwritten(raw, tmp_path):
    again(raw, tmp_path)
    path = tmp_path / "report.json"
    path.write_text(path.read_text(encoding="utf-8").replace("hf_reason.prepare/2", "hf_reason.prepare/1"))
    with pytest.raises(DataError, match="another version of hf_reason.*--overwrite"):
        again(raw, tmp_path)
    assert again(raw, tmp_path, overwrite=True)["counts"]["out"] == 75


def test_empty_source_is_named(raw, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(DataError, match=r"empty\.jsonl"):
        prepare([raw, empty], tmp_path / "out", progress=False)


def test_nothing_left_still_writes_the_report(raw, tmp_path):
    output = tmp_path / "out"
    strict = FilterConfig(min_steps=50)
    with pytest.raises(DataError, match=r"Nothing is left of 90 traces .*report\.html"):
        prepare(raw, output, filters=strict, progress=False)
    assert sorted(path.name for path in output.iterdir()) == ["report.html", "report.json", "report.png"]
    with pytest.raises(DataError, match="Nothing is left"):
        prepare(raw, output, filters=strict, progress=False)
    assert prepare(raw, output, progress=False)["counts"]["out"] == 75


def test_rows_without_reasoning_are_told_so(tmp_path):
    source = write_jsonl(
        tmp_path / "qa.jsonl", [{"question": f"{n}加4等于几?", "answer": str(n + 4)} for n in range(9)]
    )
    with pytest.raises(DataError, match="no reasoning.*hf-reason evaluate.*--keep_non_thinking true"):
        prepare(source, tmp_path / "out", progress=False)
    skipped = FilterConfig(skip=("empty_thought", "few_steps", "too_short"))
    assert prepare(source, tmp_path / "out", filters=skipped, progress=False)["counts"]["out"]


@pytest.mark.parametrize("existed", [False, True])
def test_a_run_that_fails_at_its_first_rows_leaves_no_folder(tmp_path, existed):
    source, output = write_jsonl(tmp_path / "x.jsonl", [{"colour": "red"}]), tmp_path / "out"
    if existed:
        output.mkdir()
    with pytest.raises(DataError, match="unknown layout"):
        prepare(source, output, progress=False)
    assert output.exists() == existed and not (existed and any(output.iterdir()))


def test_unreadable_rows_are_counted_once_also_when_resumed(raw, tmp_path, monkeypatch):
    lines = raw.read_text(encoding="utf-8").splitlines()
    for place in (0, 8, 16, 40, len(lines)):
        lines.insert(place, "{broken")
    broken = tmp_path / "broken.jsonl"
    broken.write_text("\n".join(lines) + "\n{also broken\n", encoding="utf-8")
    whole = prepare(broken, tmp_path / "whole", skip_broken=True, chunk_size=15, progress=False)
    assert whole["counts"]["filters"]["unreadable"] == 6
    assert whole["counts"]["in"] == 96
    assert len(whole["examples"]["unreadable"]) == 3

    add = ChunkFiles.add

    def failing(self, index, *rest):
        if index == 4:
            raise RuntimeError("killed")
        add(self, index, *rest)

    monkeypatch.setattr(ChunkFiles, "add", failing)
    with pytest.raises(RuntimeError):
        prepare(broken, tmp_path / "resumed", skip_broken=True, chunk_size=15, progress=False)
    monkeypatch.undo()
    prepare(broken, tmp_path / "resumed", skip_broken=True, progress=False)
    assert folder_hash(tmp_path / "resumed") == folder_hash(tmp_path / "whole")

    with pytest.raises(DataError, match=r"broken\.jsonl"):
        prepare(broken, tmp_path / "strict", progress=False)


def test_counts_add_up_by_file_and_a_file_of_unknown_layout_is_an_error(raw, tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    lines = raw.read_text(encoding="utf-8").splitlines()
    (folder / "a.jsonl").write_text("\n".join([*lines[:20], "{broken", "{broken"]), encoding="utf-8")
    (folder / "b.csv").write_text("问题,思考过程,答案\n少一格,x\n", encoding="utf-8")
    (folder / "c.jsonl").write_text("\n".join(lines[20:]), encoding="utf-8")
    report = prepare(folder, tmp_path / "out", skip_broken=True, progress=False)
    files = report["files"]
    assert {name: file["in"] for name, file in files.items()} == {"a.jsonl": 22, "b.csv": 1, "c.jsonl": 70}
    assert files["a.jsonl"]["filters"]["unreadable"] == 2
    assert files["b.csv"] == {"in": 1, "out": 0, "filters": {"unreadable": 1}}
    assert all(file["in"] == file["out"] + sum(file["filters"].values()) for file in files.values())
    assert any("b.csv: none of its 1 rows was kept" in warning for warning in report["warnings"])
    assert sorted(example["source"] for example in report["examples"]["unreadable"]) == [
        "a.jsonl#21",
        "a.jsonl#22",
        "b.csv#1",
    ]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert 'row that could not be read</span><span class="t" lang="zh">无法读取的行</span> 2' in page

    (folder / "b.csv").write_text("标题,正文\n一,二\n三,四\n", encoding="utf-8")
    with pytest.raises(DataError, match="b.csv#1: unknown layout. Its columns are 标题, 正文"):
        prepare(folder, tmp_path / "out2", skip_broken=True, progress=False)


def test_a_csv_with_chinese_columns(raw, tmp_path):
    rows = [json.loads(line) for line in raw.read_text(encoding="utf-8").splitlines()]
    path = tmp_path / "traces.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["问题", "思考过程", "答案"], *(row.values() for row in rows)])
    report = prepare(path, tmp_path / "out", progress=False)
    assert (report["counts"]["in"], report["counts"]["out"]) == (90, 75)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_everything_goes_into_one_split(raw, tmp_path, split):
    report = prepare(raw, tmp_path, **{f"{split}_size": 1}, progress=False)
    assert report["splits"] == {split: 75}
    assert list(load_from_disk(str(tmp_path))) == [split]


def test_sizes_may_leave_nothing_to_train_on(raw, tmp_path):
    report = prepare(raw, tmp_path, validation_size=0.3, test_size=0.7, progress=False)
    assert list(report["splits"]) == ["validation", "test"] and sum(report["splits"].values()) == 75


def test_a_domain_for_a_whole_source(raw, tmp_path):
    rows = [json.loads(line) | {"domain": "math"} for line in raw.read_text(encoding="utf-8").splitlines()]
    source = write_jsonl(tmp_path / "tagged.jsonl", rows)
    report = prepare(source, tmp_path / "out", domain="finance", progress=False)
    assert report["domains"]["finance"]["all"] == 75 and report["settings"]["domain"] == "finance"


def test_an_answer_that_contradicts_its_chain_is_kept_and_counted(raw, tmp_path):
    rows = [json.loads(line) for line in raw.read_text(encoding="utf-8").splitlines()]
    wrong = dict(raw_trace(7000), content="最后有1个。")
    source = write_jsonl(tmp_path / "wrong.jsonl", [*rows, wrong, wrong])
    report = prepare(source, tmp_path / "out", progress=False)
    assert report["counts"]["suspicious"] == 1, "the copy is a duplicate"
    assert report["counts"]["out"] == 76
    assert report["examples"]["suspicious"][0]["source"] == "wrong.jsonl#91"
    assert any("1 of 76 records are suspicious" in warning for warning in report["warnings"])
    assert any("report.html shows examples" in warning for warning in report["warnings"])
    assert "their answer contradicts their chain" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_contaminated_records_are_taken_out(raw, tmp_path):
    evaluation = write_jsonl(tmp_path / "evaluation.jsonl", [{"question": raw_trace(n)["input"]} for n in (3, 4)])
    report = prepare(raw, tmp_path / "out", decontaminate=[evaluation], progress=False)
    assert report["counts"]["filters"]["contaminated"] >= 2
    assert "evaluation.jsonl" in report["examples"]["contaminated"][0]["note"]
    contexts = {text for split in load_from_disk(str(tmp_path / "out")).values() for text in split["context"]}
    assert raw_trace(3)["input"] not in contexts and raw_trace(5)["input"] in contexts


def test_near_equal_contexts_with_other_chains_share_a_split(tmp_path):
    rows = [raw_trace(number) for number in range(60)]
    for number in range(60):
        other = raw_trace(2000 + number)
        rows.append(dict(other, input="请问:" + rows[number]["input"]))
    source = write_jsonl(tmp_path / "pairs.jsonl", rows)
    prepare(source, tmp_path / "out", validation_size=0.25, test_size=0.25, progress=False)
    where: dict[str, set[str]] = {}
    records = 0
    for split, data in load_from_disk(str(tmp_path / "out")).items():
        for context in data["context"]:
            where.setdefault(context.removeprefix("请问:"), set()).add(split)
            records += 1
    assert records > 100
    assert all(len(splits) == 1 for splits in where.values())
    assert len({next(iter(splits)) for splits in where.values()}) == 3


def test_impossible_arguments(raw, tmp_path):
    with pytest.raises(DataError, match="No sources"):
        prepare([], tmp_path)
    with pytest.raises(DataError, match="at most 1"):
        prepare(raw, tmp_path, validation_size=0.6, test_size=0.5)
    with pytest.raises(DataError, match="num_proc 0"):
        prepare(raw, tmp_path, num_proc=0)
    with pytest.raises(DataError, match="inside the source folder"):
        prepare(raw.parent, raw.parent / "out")
    with pytest.raises(DataError, match="is a file"):
        prepare(raw, raw)
    with pytest.raises(DataError, match=r"missing\.jsonl"):
        prepare(raw, tmp_path, decontaminate=[tmp_path / "missing.jsonl"], progress=False)
