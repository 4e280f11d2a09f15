"""`prepare` on the command line; recipes/prepare_data.py is the same."""

import json
from pathlib import Path

import pytest
from datasets import load_from_disk


def words(text: str) -> list[str]:
    return text.split()


_CITIES = words(
    """
    北京 上海 广州 深圳 成都 杭州 南京 武汉 西安 重庆 天津 苏州 长沙 郑州 青岛 大连 厦门 昆明 沈阳 合肥
    """
)


@pytest.fixture
def run(run_here, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: run_here("prepare_data.py", *map(str, arguments))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    rows = []
    for number, city in enumerate(_CITIES):
        far, hours = 60 + 7 * number, 2 + number % 5
        chain = f"首先,{city}到终点的路程是{far}千米。\n\n然后,时间是{hours}小时。\n\n因此速度是{far}÷{hours}。"
        question = f"一列火车从{city}出发,{hours}小时行驶{far}千米,经过{_CITIES[number - 1]},求它的平均速度。"
        rows.append({"input": question, "reasoning_content": chain, "content": f"{far}/{hours}千米每小时"})
    rows.append(rows[0])
    path = tmp_path / "trains.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_table_report_and_config_file(raw, tmp_path, run):
    config = tmp_path / "prepare.yaml"
    config.write_text(f"dataset_name: [{raw}]\noutput_dir: {tmp_path / 'ignored'}\ntest_size: 0.3\nmin_steps: 2\n")
    done = run("--config", config, "--output_dir", tmp_path / "out", "--languages", "zh", "mixed")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["settings"]["test_size"] == 0.3 and report["settings"]["filters"]["min_steps"] == 2
    assert report["counts"]["in"] == 21 and report["counts"]["filters"]["exact_duplicate"] == 1
    assert "exact_duplicate" in done.stdout and "report.html" in done.stdout
    assert not (tmp_path / "ignored").exists()
    assert sum(map(len, load_from_disk(str(tmp_path / "out")).values())) == report["counts"]["out"]
    assert report["settings"]["filters"]["languages"] == ["zh", "mixed"]
    once_more = run("--config", config, "--output_dir", tmp_path / "out", "--languages", "zh", "mixed")
    assert once_more.returncode == 0 and "up to date" in once_more.stderr


def test_errors_are_told_without_a_traceback(raw, tmp_path, run):
    strange = tmp_path / "strange.jsonl"
    strange.write_text('{"colour": "red", "size": 3}\n')
    done = run("--dataset_name", strange, "--output_dir", tmp_path / "out")
    assert done.returncode == 2
    assert "colour" in done.stderr and "Traceback" not in done.stderr
    assert "\nError: strange.jsonl#1: unknown layout" in done.stderr
    typo = run("--dataset_name", raw, tmp_path / "trainz.jsonl", "--output_dir", tmp_path / "out")
    assert typo.returncode == 2 and typo.stderr.startswith("Error: No such file")
    nothing = run("--dataset_name", raw, "--output_dir", tmp_path / "out2", "--min_steps", 99)
    assert nothing.returncode == 2 and "Nothing is left of 21 traces" in nothing.stderr
    assert (tmp_path / "out2" / "report.html").exists()
    unknown = tmp_path / "unknown.yaml"
    unknown.write_text("inputs: x\n")
    wrong = run("--config", unknown, "--dataset_name", raw, "--output_dir", tmp_path / "out3")
    assert wrong.returncode == 2 and "inputs" in wrong.stderr and "Traceback" not in wrong.stderr
    blocked = run("--dataset_name", raw, "--output_dir", strange / "out")
    assert blocked.returncode == 2 and "Traceback" not in blocked.stderr
    assert f"Error: output_dir {strange / 'out'} cannot be made: {strange} is a file" in blocked.stderr
    missing = run("--output_dir", tmp_path / "out4")
    assert missing.returncode == 2 and "--dataset_name" in missing.stderr
