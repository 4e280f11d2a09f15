"""The parts of `circle`: its plan, simulated users, what is new in the feedback, and the test of two versions."""

import asyncio
import sqlite3
import threading

import pytest

from hf_reason.cli.circling.arguments import SECTIONS, CircleArguments
from hf_reason.cli.circling.client import ServerError
from hf_reason.cli.circling.crowd import Crowd, drawn, is_right
from hf_reason.cli.circling.new_feedback import prepare_feedback, read_new_feedback
from hf_reason.cli.circling.plan import plan_of
from hf_reason.cli.circling.version_test import VersionTest
from hf_reason.cli.stages.sections import split_words
from hf_reason.serving.experiments import ExperimentError, Experiments
from hf_reason.serving.feedback import FeedbackStore, Served

RECORD = {
    "context": "3盒笔,每盒12支,共多少支?",
    "task": "",
    "domain": "math",
    "steps": ["3×12=36支"],
    "answer": "36支",
}


def _plan(tmp_path, words=(), **given):
    rest, inside = split_words(list(words), SECTIONS)
    assert not rest
    sections = {"serve": {"output_dir": str(tmp_path / "served")}, "continual": {"old_dataset": "old"}}
    settings = {"model_name_or_path": "out/first", "output_dir": str(tmp_path / "second"), **sections, **given}
    return plan_of(CircleArguments(**settings), inside, None)


def test_a_plan_has_both_versions_and_the_settings_of_its_sections(tmp_path):
    words = ["--serve.port", "0", "--continual.max_steps", "5"]
    plan = _plan(tmp_path, words, use_cpu=True)
    assert plan.version_a == ("first", "out/first") and plan.model == "first"
    assert plan.version_b == ("second", str(tmp_path / "second" / "second"))
    assert plan.serve.port == 0 and plan.serve_settings["port"] == 0 and plan.serve_settings["use_cpu"] is True
    assert plan.continual_words == ["--max_steps", "5"] and plan.feedback_file == tmp_path / "served" / "feedback.db"


@pytest.mark.parametrize(
    ("words", "given", "message"),
    [
        ([], {"model_name_or_path": ""}, "there is no version in use"),
        ([], {"model_name_or_path": "out/second"}, "both versions would be called second"),
        ([], {"model_name_or_path": "a b=out/first"}, "'a b' is no name of a version"),
        ([], {"alpha": 1.0}, "alpha must be between 0 and 1"),
        ([], {"min_feedback": 0}, "min_feedback must be at least 1"),
        ([], {"correct_ratio": 1.5}, "correct_ratio must be between 0 and 1"),
        (
            [],
            {"continual": {"old_dataset": "old", "dataset_name": "x"}},
            "continual: dataset_name is set by the circle",
        ),
        (["--serve.model_name_or_path", "x"], {}, "serve: model_name_or_path is set by the circle"),
        (["--serve.prot", "1"], {}, "prot"),
        ([], {"continual": {}}, "old_dataset"),
        (["--continual.max_drop", "-1"], {}, "max_drop"),
        (["--serve.replicas", "2"], {}, "replicas are for a server that you run yourself"),
        ([], {"serve": "[1]"}, "serve must be a dictionary"),
        ([], {"serve": {"engine": "openai", "engine_url": "http://127.0.0.1:1/v1"}}, "engine openai has its models"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(tmp_path, words, given, message):
    with pytest.raises(ValueError, match=message):
        _plan(tmp_path, words, **given)


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [("共36支", "36支", True), ("35支", "36支", False), ("也许吧", "36支", False), ("", "36支", False)],
)
def test_a_user_is_content_with_the_answer_that_was_expected(answer, reference, right):
    assert is_right(answer, reference) is right


class _Client:
    """Answers each question alike, and keeps what is said about it."""

    def __init__(self, said, fails=()):
        self.said, self.fails, self.asked, self.given, self.lock = said, set(fails), [], [], threading.Lock()

    def ask(self, **body):
        with self.lock:
            if len(self.asked) in self.fails:
                raise ServerError("the server is gone")
            self.asked.append(body)
            return {"id": f"a{len(self.asked)}", "choices": [{"message": {"content": self.said}}]}

    def feedback(self, **body):
        with self.lock:
            self.given.append(body)


def _crowd(client, **options):
    return Crowd(client, "mine", **{"num_clients": 2, "correct_ratio": 1.0, "seed": 0, **options})


def test_users_praise_what_is_right_and_correct_the_rest():
    right, wrong = _Client("36支"), _Client("35支")
    problems = [(f"u{number}", RECORD) for number in range(40)]
    assert vars(_crowd(right).ask(problems)) == {"right": 40, "corrected": 0, "wrong": 0}
    assert right.given[0]["thumbs"] == "up" and {body["user"] for body in right.asked} == {
        user for user, _ in problems
    }
    assert right.asked[0]["model"] == "mine" and right.asked[0]["messages"][0]["content"] == RECORD["context"]
    count = _crowd(wrong, correct_ratio=0.25).ask(problems)
    assert count.right == 0 and 3 <= count.corrected <= 20 and count.answers == 40
    corrected = [body for body in wrong.given if "corrected_answer" in body]
    assert len(corrected) == count.corrected and corrected[0]["corrected_steps"] == ["3×12=36支"]
    assert all(body["thumbs"] == "down" for body in wrong.given)
    again = _Client("35支")
    _crowd(again, correct_ratio=0.25).ask(problems, done={"u0", "u1"})
    assert len(again.asked) == 38  # who has spoken is not asked again, and the same ones correct
    assert {body["user"] for body in again.given if "corrected_answer" in body} == {
        body["user"] for body in corrected
    } - {"u0", "u1"}


def test_users_stop_when_it_is_enough_and_when_the_server_fails():
    client = _Client("36支")
    problems = [(f"u{number}", RECORD) for number in range(1000)]
    _crowd(client).ask(problems, stop=lambda: len(client.given) >= 10)
    assert 10 <= len(client.given) <= 12
    broken = _Client("36支", fails={5})
    with pytest.raises(ServerError, match="the server is gone"):
        _crowd(broken).ask(problems)
    assert len(broken.asked) < 20


def test_users_draw_with_replacement_and_always_the_same():
    records = [{**RECORD, "context": str(number)} for number in range(5)]
    found = drawn(records, "t", 200, seed=1)
    assert found == drawn(records, "t", 200, seed=1) and found[:50] == drawn(records, "t", 50, seed=1)
    assert found != drawn(records, "t", 200, seed=2) and len({user for user, _ in found}) == 200
    counts = [sum(record["context"] == str(number) for _, record in found) for number in range(5)]
    assert all(20 <= count <= 60 for count in counts)  # 40 on average


def test_only_what_is_new_and_to_be_learned_is_read(tmp_path):
    path = tmp_path / "feedback.db"
    assert read_new_feedback(path).records == []
    sqlite3.connect(path).execute("PRAGMA journal_mode = WAL")  # begun by the server, without its tables
    assert read_new_feedback(path).records == []
    store = FeedbackStore(path)
    for number in range(6):
        served = Served(
            f"r{number}", f"{number}盒笔,每盒12支,共多少支?", f"{12 * number}支", (f"{number}×12={12 * number}支",)
        )
        store.remember(served)
        store.add(f"r{number}", thumbs="down" if number == 3 else "up", user=f"u{number}")
    store.add("r1", corrected_steps=["1×12=12支", "共12支"], corrected_answer="12支", user="u9")
    found = read_new_feedback(path)
    assert len(found.records) == 5 and found.left_out == {"disliked": 1} and found.last == 7
    assert found.users == {*(f"u{number}" for number in range(6)), "u9"}
    later = read_new_feedback(path, after=4)
    assert [record["context"][0] for record in later.records] == ["1", "4", "5"]  # the correction of r1 is new
    assert later.records[0]["steps"] == ["1×12=12支", "共12支"] and later.last == 7
    assert read_new_feedback(path, after=7).records == [] and read_new_feedback(path, after=7).last == 7
    store.close()


def test_short_chains_of_feedback_stay(tmp_path):
    import json

    from datasets import load_from_disk

    from hf_reason.data.record import make_record

    rows = [
        make_record(
            f"一个箱子里有{a}个红球和{b}个蓝球,一共有多少个球?", [f"{a}+{b}={a + b}个"], f"{a + b}个", domain="math"
        )
        for a in range(3, 9)
        for b in range(20, 25)
    ]
    path = tmp_path / "feedback.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    counts = prepare_feedback(path, tmp_path / "data", False)
    assert counts["in"] == 30 and not counts["filters"].get("few_steps")
    splits = load_from_disk(str(tmp_path / "data"))
    assert len(splits["train"]) and set(splits["train"]["domain"]) == {"math"}
    assert prepare_feedback(path, tmp_path / "data", False) == counts  # what is finished stays


def test_the_test_begins_where_the_last_one_ended(tmp_path):
    plan = _plan(tmp_path)
    experiments = Experiments(plan.experiments_file)
    test = VersionTest(plan)
    test.check()
    assert test.versions() == [plan.version_a] and not test.ended()
    with pytest.raises(ExperimentError, match="nothing has made first the version that answers for known"):
        VersionTest(_plan(tmp_path, model="known")).check()
    experiments.start("other", model="first", version_a="first", version_b="third")
    with pytest.raises(ExperimentError, match="'other' runs on first"):
        test.check()
    experiments.promote("other", force=True)
    with pytest.raises(ExperimentError, match="answered by 'third' since 'other' was promoted"):
        test.check()
    VersionTest(_plan(tmp_path, model_name_or_path="third=out/x", model="first")).check()
    experiments.roll_back("other")
    test.check()
    test.start()
    test.start()
    assert test.versions() == [plan.version_a, plan.version_b] and not test.is_enough()
    test.decide()
    assert test.found().status == "rolled_back" and test.ended() and test.versions() == [plan.version_a]
    test.decide()  # what has ended stays
    experiments.close()


def test_the_better_version_is_promoted(tmp_path):
    plan = _plan(tmp_path, max_outcomes=10_000)
    test = VersionTest(plan)
    test.start()
    for number in range(400):
        user = f"u{number}"
        test.experiments.record("second", user, int(test.found().arm(user) == "B"))
        if test.is_enough():
            break
    assert test.result().better == "B" and number < 100
    test.decide()
    assert test.found().status == "promoted" and test.versions() == [plan.version_a, plan.version_b]


def test_the_name_of_an_experiment_outlives_its_first_version(tmp_path):
    from hf_reason.serving.cache import NoCache
    from hf_reason.serving.chat import Chat
    from hf_reason.serving.engines.base import Accepted, Load, ModelCard
    from hf_reason.serving.errors import ApiError
    from hf_reason.serving.metrics import Metrics
    from hf_reason.serving.schema import ChatRequest
    from hf_reason.serving.settings import ServeSettings

    class Engine:
        def models(self):
            return [ModelCard("second", 0)]

        def load(self):
            return Load()

        def check(self, job):
            return Accepted(job, self.models()[0], (), {}, True)

    experiments = Experiments(tmp_path / "experiments.db")
    chat = Chat(Engine(), ServeSettings(), NoCache(), Metrics(), None, experiments)

    def model_of(name):
        request = ChatRequest(model=name, messages=[{"role": "user", "content": "1+1=?"}])
        return asyncio.run(chat.accept(request, "")).model

    with pytest.raises(ApiError, match="There is no model 'first'"):
        model_of("first")
    experiments.start("second", model="first", version_a="first", version_b="second")
    experiments.promote("second", force=True)
    assert model_of("first") == model_of(None) == model_of("second") == "second"
    with pytest.raises(ApiError, match="There is no model 'third'"):
        model_of("third")
    experiments.roll_back("second")  # and the first version is not loaded
    with pytest.raises(ApiError, match="There is no model 'first'"):
        model_of("first")
