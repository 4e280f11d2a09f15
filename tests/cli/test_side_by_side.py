"""Running recipes in parallel: all end, a failure stops the others and shows its log."""

import time

import pytest

from hf_reason.cli import run_side_by_side


def _script(tmp_path, name, code):
    path = tmp_path / f"{name}.py"
    path.write_text(code)
    return [str(path)], tmp_path / f"{name}.log"


def test_all_run_and_their_output_is_kept(tmp_path, capsys):
    one = _script(tmp_path, "one", "import os; print(\"{'loss': '0.5', 'x': 1}\", os.environ['OMP_NUM_THREADS'])")
    two = _script(tmp_path, "two", "print('two')")
    run_side_by_side({"one": one, "two": two})
    assert "'loss': '0.5'" in one[1].read_text()
    assert two[1].read_text() == "two\n"
    assert "one:" in capsys.readouterr().out


def test_failure_stops_the_others_and_shows_its_log(tmp_path):
    bad = _script(tmp_path, "bad", "import time; time.sleep(1); raise ValueError('no such thing')")
    slow = _script(tmp_path, "slow", "import time; time.sleep(60)")
    started = time.monotonic()
    with pytest.raises(RuntimeError, match=r"(?s)bad failed .*no such thing"):
        run_side_by_side({"slow": slow, "bad": bad})
    assert time.monotonic() - started < 30


def test_nothing_to_run(tmp_path):
    run_side_by_side({})
