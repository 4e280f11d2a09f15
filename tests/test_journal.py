"""Rows that survive a kill at any moment."""

import json

import pytest

from hf_reason._journal import Journal, JournalError

SETTINGS = {"teacher": "t", "temperature": 0.5}
ROWS = [{"id": f"问题{number}", "sample": number % 2, "text": "好\n" * number} for number in range(4)]
KEY = ("id", "sample")


def _open(path, settings=SETTINGS, **options):
    return Journal(path, settings, **{"key": KEY, **options})


def test_a_kill_at_any_byte_loses_and_doubles_nothing(tmp_path):
    whole = tmp_path / "whole.jsonl"
    _open(whole).add(ROWS)
    content = whole.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    around = {end + shift for end in ends for shift in (-1, 0, 1)}
    for length in sorted({*range(0, len(content), 9), *around} - {len(content) + 1}):
        path = tmp_path / "killed.jsonl"
        path.write_bytes(content[:length])
        journal = _open(path)
        survived = max(0, sum(end <= length for end in ends) - 1)
        assert len(journal) == survived and list(journal) == ROWS[:survived]
        journal.add(ROWS)  # those that are there are not added again
        assert path.read_bytes() == content


def test_rows_are_read_by_their_names(tmp_path):
    journal = _open(tmp_path / "rows.jsonl")
    journal.add(reversed(ROWS))
    assert journal.read([("问题2", 0), ("问题1", 1)]) == [ROWS[2], ROWS[1]]
    assert ("问题2", 0) in journal and ("问题2", 1) not in journal


def test_rows_without_names_may_be_equal(tmp_path):
    journal = Journal(tmp_path / "rows.jsonl", SETTINGS)
    journal.add([ROWS[0], ROWS[0]])
    assert list(Journal(tmp_path / "rows.jsonl", SETTINGS)) == [ROWS[0], ROWS[0]]


def test_other_settings_are_refused_or_replaced(tmp_path):
    path = tmp_path / "rows.jsonl"
    _open(path).add(ROWS)
    with pytest.raises(JournalError, match=r"temperature: 0.5 -> 1.*Choose another output_dir"):
        _open(path, {**SETTINGS, "temperature": 1})
    assert len(_open(path)) == 4
    assert len(_open(path, {"teacher": "u"}, replace=True)) == 0
    assert len(path.read_text().splitlines()) == 1


def test_other_files_and_damage_are_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "1+1"}\n')
    with pytest.raises(JournalError, match="no file of such a run"):
        _open(path)
    path.unlink()
    _open(path).add(ROWS)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1], lines[2][:-9], lines[3]]) + "\n")
    with pytest.raises(JournalError, match="line 3, is damaged"):
        _open(path)


def test_half_a_surrogate_pair_comes_back(tmp_path):
    row = {"id": "a", "sample": 0, "text": "\ud83d"}
    _open(tmp_path / "rows.jsonl").add([row])
    assert list(_open(tmp_path / "rows.jsonl")) == [row]
    assert json.loads(json.dumps(row)) == row
