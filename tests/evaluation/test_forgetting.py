"""Forgetting: the figures against matrices worked out by hand, the guard, the files, the plot."""

import pytest

from hf_reason.evaluation.forgetting import (
    ForgettingError,
    Round,
    check_drops,
    forgetting_figures,
    format_history,
    history_plot,
    load_history,
    save_history,
)


def _round(name, learned, **accuracy):
    return Round(name, tuple(learned), accuracy, dict.fromkeys(accuracy, 50))


HISTORY = [
    _round("start", ["math"], math=0.8, finance=0.1),
    _round("one", ["finance"], math=0.6, finance=0.7),
    _round("two", ["legal"], math=0.7, finance=0.5, legal=0.9),
]


def test_figures_of_a_history_worked_out_by_hand():
    figures = forgetting_figures(HISTORY)
    # math: learned at 0.8, now 0.7; finance: learned at 0.7, now 0.5
    assert figures["backward_transfer"] == pytest.approx(((0.7 - 0.8) + (0.5 - 0.7)) / 2)
    assert figures["forgetting"] == pytest.approx(((0.8 - 0.7) + (0.7 - 0.5)) / 2)
    assert figures["average_accuracy"] == pytest.approx((0.7 + 0.5 + 0.9) / 3)


def test_a_domain_that_got_better_transfers_backwards():
    rounds = [
        _round("start", ["math"], math=0.5),
        _round("a", ["law"], math=0.4, law=0.3),
        _round("b", [], math=0.6, law=0.5),
    ]
    figures = forgetting_figures(rounds)
    assert figures["backward_transfer"] == pytest.approx((0.1 + 0.2) / 2)
    assert figures["forgetting"] == pytest.approx(((0.5 - 0.6) + (0.3 - 0.5)) / 2)


def test_a_single_round_says_nothing_of_forgetting():
    figures = forgetting_figures(HISTORY[:1])
    assert figures["backward_transfer"] is None and figures["forgetting"] is None
    assert figures["average_accuracy"] == pytest.approx(0.45)


def test_the_guard_names_the_domain_and_the_drop():
    before, after = HISTORY[0], HISTORY[1]
    check_drops(before, after, ["math"], 20.0)  # exactly what is allowed
    check_drops(before, after, ["finance", "medical"], 0.0)  # better, and not measured
    with pytest.raises(
        ForgettingError,
        match=r"of math 80\.0% -> 60\.0%, 20\.0 points \(now 95% interval 46\.2-72\.4, 50 "
        r"records\)\. .*replay_ratio.*learning_rate.*max_drop",
    ):
        check_drops(before, after, ["finance", "math"], 19.9)


def test_history_is_written_and_read_back(tmp_path):
    assert load_history(tmp_path) == []
    save_history(tmp_path, HISTORY)
    assert load_history(tmp_path) == HISTORY
    assert {path.name for path in tmp_path.iterdir()} == {"history.json", "history.png"}
    (tmp_path / "history.json").write_text('{"rounds": [{"name": "x"}]}')
    with pytest.raises(ValueError, match=r"history\.json is broken"):
        load_history(tmp_path)


def test_table_and_plot(tmp_path):
    table = format_history(HISTORY)
    lines = table.splitlines()
    assert lines[0].split() == ["round", "finance", "legal", "math", "learned"]
    assert lines[1].split() == ["start", "10.0%", "-", "80.0%", "math"]
    assert lines[-1] == "backward transfer -15.0 points; forgetting +15.0 points; average accuracy 70.0%"
    assert history_plot(HISTORY).startswith(b"\x89PNG")


def test_the_other_mode_is_guarded_and_kept_too(tmp_path):
    """A round that trains thoughts only may cost a hybrid model its direct answers (LLaMA-Factory#9765)."""
    before = Round("before", ("math",), {"math": 0.5}, {"math": 50}, {"math": 0.4, "legal": 0.2})
    after = Round("after", (), {"math": 0.6, "legal": 0.1}, {"math": 50, "legal": 50}, {"math": 0.1, "legal": 0.0})
    check_drops(before, after, ["math"], 30.0)
    with pytest.raises(ForgettingError, match=r"math without thinking 40.0% -> 10.0%, 30.0 points.*mix records of"):
        check_drops(before, after, ["math"], 29.0, "without thinking")
    check_drops(before, Round("after", (), {"math": 0.6}, {"math": 50}), ["math"], 0.0)  # not measured
    save_history(tmp_path, [before, after])
    assert load_history(tmp_path) == [before, after]
    table = format_history([before, after]).splitlines()
    assert table[2].split()[:4] == ["the", "other", "mode", "20.0%"] and "40.0%" in table[2]
    assert "average accuracy 35.0%" in table[-1]  # of the mode that is trained
