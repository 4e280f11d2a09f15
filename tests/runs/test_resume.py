"""Which checkpoint a stopped run goes on from."""

import json

from hf_reason.runs import last_checkpoint


def _checkpoint(folder, step, state=True):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    if state:
        (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return str(path)


def test_no_folder_and_no_checkpoint(tmp_path):
    assert last_checkpoint(str(tmp_path / "none")) is None
    (tmp_path / "checkpoint-best").mkdir()
    assert last_checkpoint(str(tmp_path)) is None


def test_newest_complete_checkpoint_by_number(tmp_path):
    _checkpoint(tmp_path, 9)
    newest = _checkpoint(tmp_path, 100)
    assert last_checkpoint(str(tmp_path)) == newest


def test_checkpoint_of_a_run_killed_while_saving_is_passed_over(tmp_path):
    complete = _checkpoint(tmp_path, 10)
    _checkpoint(tmp_path, 20, state=False)
    (tmp_path / "checkpoint-30").mkdir()
    (tmp_path / "checkpoint-30" / "trainer_state.json").write_text('{"global_st')
    assert last_checkpoint(str(tmp_path)) == complete
