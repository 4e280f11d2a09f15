"""Running recipes in parallel: all end, a failure stops the others and shows its log."""

import os
import time

import pytest

from hf_reason.cli.side_by_side import RunFailedError, run_in_batches, run_side_by_side


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
    with pytest.raises(RunFailedError, match=r"(?s)bad failed .*no such thing"):
        run_side_by_side({"slow": slow, "bad": bad})
    assert time.monotonic() - started < 30


def test_progress_is_quiet_when_one_ends_first(tmp_path, capsys):
    short = _script(tmp_path, "short", "print('short')")
    long = _script(tmp_path, "long", "import time; time.sleep(2)")
    run_side_by_side({"short": short, "long": long})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 2, "a line at the start, and one each half minute"


def test_progress_says_which_are_done(tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    short = _script(tmp_path, "short", "print('short')")
    long = _script(tmp_path, "long", "import time; time.sleep(4)")
    run_side_by_side({"short": short, "long": long})
    assert "short: done | long: starting" in capsys.readouterr().out


def test_nothing_to_run(tmp_path):
    run_side_by_side({})


@pytest.mark.parametrize("given, threads", [("4", "2"), ("1", "1"), ("none", None)])
def test_a_limit_of_threads_is_for_all_together(tmp_path, monkeypatch, given, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    one = _script(tmp_path, "one", "import os; print(os.environ['OMP_NUM_THREADS'])")
    two = _script(tmp_path, "two", "import os; print(os.environ['OMP_NUM_THREADS'])")
    run_in_batches({"one": one, "two": two}, 2)
    expected = threads or str(max(1, (os.cpu_count() or 1) // 2))
    assert one[1].read_text().strip() == two[1].read_text().strip() == expected
