"""Experiments: sticky arms, one outcome a user, a decision that stays, and a state that survives."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hf_reason.serving.experiment_report import save_report
from hf_reason.serving.experiments import Assignment, ExperimentError, Experiments


@pytest.fixture
def experiments(tmp_path):
    found = Experiments(tmp_path / "experiments.db")
    yield found
    found.close()


def start(experiments, name="x", **changes):
    settings = {"model": "base", "version_a": "v1", "version_b": "v2"} | changes
    return experiments.start(name, **settings)


def fill(experiments, name, users=range(60), better="B"):
    """Users of one arm are all content, those of the other never."""
    for number in users:
        user = f"user{number}"
        experiments.record(name, user, int(experiments.get(name).arm(user) == better))


def test_users_keep_their_arm_and_the_fraction_holds(experiments, tmp_path):
    assert experiments.assign("base", "anyone") == Assignment(None, "", "")
    start(experiments, fraction=0.2)
    arms = {f"用户{number}": experiments.assign("base", f"用户{number}") for number in range(2000)}
    counts = Counter(each.arm for each in arms.values())
    assert 320 < counts["B"] < 480  # 400, five standard deviations
    assert {(each.arm, each.version) for each in arms.values()} == {("A", "v1"), ("B", "v2")}
    again = Experiments(tmp_path / "experiments.db")  # another process, or a restart
    assert all(again.assign("base", user) == arm for user, arm in list(arms.items())[:200])
    assert experiments.assign("other", "anyone") == Assignment()
    # another experiment divides the same users anew: of those in B here, a fifth again
    start(experiments, "y", model="other", fraction=0.2)
    both = [user for user, each in arms.items() if each.arm == experiments.assign("other", user).arm == "B"]
    assert 40 < len(both) < 130


def test_a_users_first_outcome_counts(experiments):
    start(experiments)
    assert experiments.record("x", "u", 1) and not experiments.record("x", "u", 0)
    assert experiments.record("x", "w", 0, "answer")
    result = experiments.result("x")
    assert result.outcomes == 2 and result.a.successes + result.b.successes == 1
    assert result.sources == {"feedback": 1, "answer": 1}
    for outcome in (2, -1, 0.5, None):
        with pytest.raises(ExperimentError, match="An outcome is 0 or 1"):
            experiments.record("x", "v", outcome)
    for unit in ("", "x" * 1001):
        with pytest.raises(ExperimentError, match="1 to 1000 characters"):
            experiments.record("x", unit, 1)
    assert experiments.record("x", "\ud800", 1)  # any text is a user
    with pytest.raises(ExperimentError, match="no experiment 'z'. There are: x"):
        experiments.record("z", "u", 1)


def test_users_are_not_in_the_file(experiments, tmp_path):
    start(experiments)
    experiments.record("x", "person@example.org", 1)
    experiments.close()
    assert b"person" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_promote_and_roll_back(experiments):
    start(experiments)
    with pytest.raises(ExperimentError, match="nothing shows that v2 is better .no difference is shown yet; p = 1, 0"):
        experiments.promote("x")
    fill(experiments, "x")
    result = experiments.result("x")
    assert result.better == "B" and result.decided_at < 40 and result.p_value < 1e-3
    assert result.summary.startswith(f"v2 is better than v1, decided after {result.decided_at} outcomes")
    assert result.a.rate == 0.0 and result.b.rate == result.difference == 1.0 and result.difference_interval[0] > 0.5
    assert experiments.promote("x").status == "promoted"
    assert experiments.assign("base", "anyone") == Assignment("v2", "", "")
    assert not experiments.record("x", "late", 1)  # it has ended
    with pytest.raises(ExperimentError, match="x has ended: it is promoted"):
        experiments.promote("x")
    assert experiments.roll_back("x").status == "rolled_back"
    assert experiments.assign("base", "anyone") == Assignment("v1", "", "")
    with pytest.raises(ExperimentError, match="x has ended: it is rolled_back"):
        experiments.roll_back("x")


def test_a_worse_version_is_not_promoted_unless_forced(experiments):
    start(experiments)
    fill(experiments, "x", better="A")
    assert experiments.result("x").better == "A"
    with pytest.raises(ExperimentError, match="v1 is better than v2"):
        experiments.promote("x")
    assert experiments.promote("x", force=True).status == "promoted"


def test_one_after_another(experiments):
    start(experiments)
    with pytest.raises(ExperimentError, match="'x' runs on base. Promote it or roll it back"):
        start(experiments, "y")
    with pytest.raises(ExperimentError, match="There is an experiment 'x' already"):
        start(experiments, model="other")
    experiments.promote("x", force=True)
    with pytest.raises(
        ExperimentError, match="base serves 'v2' since x was promoted; version_a must be that, not 'v1'"
    ):
        start(experiments, "y", version_b="v3")
    start(experiments, "y", version_a="v2", version_b="v3")
    with pytest.raises(ExperimentError, match="x has ended, and y builds on it"):
        experiments.roll_back("x")
    experiments.roll_back("y")
    assert experiments.assign("base", "anyone").version == "v2"
    assert [each.name for each in experiments.all()] == ["x", "y"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fraction": 0.0}, "fraction must be between 0 and 1, not 0.0"),
        ({"fraction": float("nan")}, "fraction must be between 0 and 1"),
        ({"alpha": 1}, "alpha must be between 0 and 1"),
        ({"version_b": "v1"}, "both 'v1': there is nothing to compare"),
        ({"name": "a b"}, "'a b' is no name"),
        ({"name": ""}, "'' is no name"),
    ],
)
def test_settings_that_make_no_experiment(experiments, changes, message):
    with pytest.raises(ExperimentError, match=message):
        start(experiments, **changes)
    assert experiments.all() == []


def test_a_decision_stays(experiments):
    start(experiments)
    fill(experiments, "x", range(40))
    decided = experiments.result("x")
    assert decided.better == "B"
    fill(experiments, "x", range(40, 120), better="A")  # and then all is the other way round
    later = experiments.result("x")
    assert (later.better, later.decided_at) == ("B", decided.decided_at)
    assert later.p_value <= decided.p_value  # evidence against equal rates that was there once stays
    assert later.difference < 0 < decided.difference


def test_the_result_is_the_same_however_often_it_is_asked_for(experiments, tmp_path):
    start(experiments, fraction=0.3)
    for number in range(80):
        experiments.record("x", f"u{number}", int(number % 3 == 0))
        if number % 7 == 0:
            experiments.result("x")
    asked, fresh = experiments.result("x"), Experiments(tmp_path / "experiments.db").result("x")
    assert asked.e_value == pytest.approx(fresh.e_value, rel=1e-9)
    assert (asked.a, asked.b, asked.better, asked.sources) == (fresh.a, fresh.b, fresh.better, fresh.sources)


def test_votes_between_two_answers(experiments):
    start(experiments)
    for number in range(60):
        experiments.record_preference("x", f"u{number}", "B")
    result = experiments.result("x")
    assert result.better == "B" and result.b.rate == 1.0 and result.a.rate == 0.0
    assert result.sources == {"preference": 60}
    with pytest.raises(ExperimentError, match="preferred is 'A' or 'B'"):
        experiments.record_preference("x", "u", "tie")


def test_the_report(experiments, tmp_path):
    start(experiments, version_b="微调")
    save_report(experiments, "x", tmp_path / "empty")  # before the first outcome
    fill(experiments, "x", range(50))
    result = save_report(experiments, "x", tmp_path / "deep" / "report")
    text = (tmp_path / "deep" / "report" / "report.md").read_text(encoding="utf-8")
    assert f"| B | 微调 | {result.b.outcomes} | {result.b.outcomes} | 100.0% |" in text
    assert f"微调 is better than v1, decided after {result.decided_at} outcomes" in text and "50 feedback" in text
    figures = json.loads((tmp_path / "deep" / "report" / "report.json").read_text(encoding="utf-8"))
    assert figures["better"] == "B" and figures["b"]["outcomes"] == result.b.outcomes
    for folder in ("empty", "deep/report"):
        assert (tmp_path / folder / "report.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_file_of_something_else(tmp_path):
    (tmp_path / "notes.db").write_text("no database" * 100)
    with pytest.raises(ExperimentError, match="notes.db cannot hold experiments"):
        Experiments(tmp_path / "notes.db")


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    """The Python of docs/experiments.md, as it stands there."""
    page = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        exec(block, {})
    assert capsys.readouterr().out.splitlines()[1] == "{'corrected': 1}"  # what the comment there says
    assert (tmp_path / "outputs" / "report" / "report.png").exists()


WORKER = """
import sys
from hf_reason.serving.experiments import Experiments
experiments = Experiments(sys.argv[1])
counted = sum(experiments.record("x", f"u{number}", number % 2) for number in range(100))
print(counted, experiments.result("x").outcomes)
"""


@pytest.mark.slow
def test_processes_share_one_experiment(experiments, tmp_path):
    start(experiments)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path / "experiments.db")], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    said = [worker.communicate()[0].split() for worker in workers]
    assert sum(int(counted) for counted, _ in said) == 100  # each user once, whoever was first
    assert max(int(seen) for _, seen in said) == 100 == experiments.result("x").outcomes
