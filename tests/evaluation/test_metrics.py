"""The metrics against cases worked by hand, as functions and through `evaluate.load` without a network."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from hf_reason.evaluation import METRICS, load_metrics, metric_path, scoring

REFERENCE = ["共有3+4=7个", "翻倍后7×2=14个"]


def chain(*steps, answer="14"):
    lines = "".join(f"步骤{number}: {step}\n" for number, step in enumerate(steps, 1))
    return f"<think>\n{lines}</think>\n\n{answer}"


@pytest.mark.parametrize(
    ("steps", "reference", "total", "checkable", "holding", "correct"),
    [
        (["3+4=7", "7×2=14"], REFERENCE, 2, 2, 2, 2),
        (["3+4=7", "7×2=15"], REFERENCE, 2, 2, 1, 1),
        # Holds, but 12 is no result of the reference.
        (["3×4=12", "7×2=14"], REFERENCE, 2, 2, 2, 1),
        # Without equations in the reference, holding is enough.
        (["3×4=12", "5+5=11"], ["想一想"], 2, 2, 1, 1),
        (["3×4=12"], [], 1, 1, 1, 1),
        # Prose is neither right nor wrong.
        (["先看题目", "3+4=7", "所以有14个"], REFERENCE, 3, 1, 1, 1),
        # One wrong equation spoils its step, though the last result is right.
        (["3+4=8,不对,3+4=7"], REFERENCE, 1, 1, 0, 0),
        # Order is free; a result in another form is the same result.
        (["7×2=14.0", "3+4=7"], REFERENCE, 2, 2, 2, 2),
        # A loop does not raise the figure.
        (["3+4=7"] * 9 + ["7×2=13"], REFERENCE, 2, 2, 1, 1),
        # The exact quotient and the rounded one meet.
        (["10÷3≈3.3"], ["10÷3=3.33"], 1, 1, 1, 1),
        (["17÷5=3……2"], ["17÷5=3……2"], 1, 1, 1, 1),
        # A comma between two equations does not group thousands.
        (["先算360÷3=120,120+30=150"], ["360÷3=120", "120+30=150"], 1, 1, 1, 1),
        (["12×100=1,200,1,200+5=1,205"], ["12×100=1,200", "1,200+5=1,205"], 1, 1, 1, 1),
        ([], REFERENCE, 0, 0, 0, 0),
    ],
)
def test_steps_are_scored_as_by_hand(steps, reference, total, checkable, holding, correct):
    assert scoring.score_steps(steps, reference) == scoring.StepScore(total, checkable, holding, correct)


@pytest.mark.parametrize(
    ("steps", "reference", "expected"),
    [
        (["3+4=7", "7×2=14"], REFERENCE, (2, 2)),
        (["共有7个"], REFERENCE, (1, 2)),
        (["17和140"], REFERENCE, (0, 2)),
        (["占四分之一,即25%"], ["1÷4=1/4"], (1, 1)),
        (["得到0.25"], ["1÷4=1/4"], (1, 1)),
        (["共1,200元"], ["600×2=1200"], (1, 1)),
        (["有3,4和7"], ["1+2=3", "3+1=4"], (2, 2)),
        # A value that comes twice is one key result.
        (["7"], ["3+4=7", "8-1=7"], (1, 1)),
        (["7"], ["没有算式"], (0, 0)),
        ([], REFERENCE, (0, 2)),
    ],
)
def test_coverage_is_counted_as_by_hand(steps, reference, expected):
    assert scoring.key_coverage(steps, reference) == expected


def test_numbers_of_a_text():
    assert scoring.numbers_in("从1/2到3.5,共50%,2万") == {
        Fraction(1, 2),
        Fraction(1),
        Fraction(2),
        Fraction(7, 2),
        Fraction(50, 100),
        Fraction(20000),
        Fraction(50),
    } - {Fraction(50)}


def test_wilson_interval_at_published_values():
    # Newcombe (1998), Statistics in Medicine 17, table I: method 3 (score), without continuity correction.
    for share, count, low, high in (
        (81 / 263, 263, 0.2553, 0.3662),
        (15 / 148, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1 / 29, 29, 0.0061, 0.1718),
    ):
        assert scoring.wilson_interval(share, count) == pytest.approx((low, high), abs=5e-5)
    assert scoring.wilson_interval(1.0, 1)[1] == 1.0


@pytest.mark.parametrize(
    ("answer", "reference", "verdict"),
    [
        ("7个", "7", True),
        ("8", "7", False),
        ("百分之十五", "15%", True),
        ("", "7", False),
        ("7", "", None),
        ("是 甲方,应当赔偿。", "是甲方,应当赔偿", True),
        ("是乙方,应当赔偿", "是甲方,应当赔偿", False),
        (r"\boxed{3:5}", "3:5", True),
        (r"\boxed{\text{无解}}", "无解", True),
        ("答案是北京。", "北京", True),
        ("答案是上海。", "北京", False),
        ("<answer>小红</answer>", "小红", True),
        ("正确选项为C", "C", True),
        ("The answer is (I).", "I", True),
        ("答案是B", "B. 12", True),
        ("12", "B. 12", True),
        ("C", "选B", False),
        (r"解得 $x_1=\boxed{3}$,$x_2=\boxed{5}$。", "3,5", True),
    ],
)
def test_answers(answer, reference, verdict):
    assert scoring.answer_correct(answer, reference) is verdict


def test_thought_part_and_loops():
    assert scoring.thought_part("a</think>\n\nb") == "a</think>"
    assert scoring.thought_part("<think>\na b c") == "<think>\na b c"
    assert scoring.thought_part("42") == ""
    assert scoring.is_loop("<think>\n" + "我再想一想。" * 60, ["我再想一想。" * 60])
    assert not scoring.is_loop(chain("3+4=7", "7×2=14"), ["3+4=7", "7×2=14"])
    assert not scoring.is_loop("", [])


def test_lengths():
    assert scoring.length_figures(range(1, 101)) == {"mean_tokens": 50.5, "median_tokens": 50.5, "p95_tokens": 95.0}
    assert set(scoring.length_figures([]).values()) == {None}


# One case a metric: what compute() gets, and what must come out.
CASES = {
    "step_accuracy": (
        {"predictions": [chain("3+4=7", "7×2=15"), "没有步骤"], "references": [REFERENCE, []]},
        {
            "step_accuracy": 0.5,
            "equations_hold": 0.5,
            "checkable_share": 1.0,
            "num_steps": 2,
            "num_checkable": 2,
            "num_correct": 1,
        },
    ),
    "key_node_coverage": (
        {"predictions": [chain("共7个"), chain("什么也没有")], "references": [REFERENCE, ["1+1=2"]]},
        {"key_node_coverage": 1 / 3, "num_key_results": 3, "num_covered": 1},
    ),
    "answer_accuracy": (
        {
            "predictions": [chain("3+4=7", answer="14个"), "<think>\n步骤1: 14", "14", "x"],
            "references": ["14", "14", "14", ""],
        },
        {"answer_accuracy": 2 / 3, "answer_accuracy_ci": [0.2077, 0.9385], "num_scored": 3, "num_correct": 2},
    ),
    "distractor_resistance": (
        {"predictions": ["7", "30"], "clean_predictions": ["7", "9"], "references": ["7", "9"]},
        {"distractor_resistance": 0.5, "distracted_accuracy": 0.5, "clean_accuracy": 1.0, "num_scored": 2},
    ),
    "reasoning_length": (
        {"predictions": [chain("甲", "乙"), "<think>\n步骤1: " + "再算一遍。" * 60]},
        {
            "mean_tokens": None,
            "median_tokens": None,
            "p95_tokens": None,
            "mean_steps": 1.5,
            "close_rate": 0.5,
            "repeat_rate": 0.5,
            "num_outputs": 2,
            "mean_characters": ((7 + 1 + 14 + 8) + (8 + 5 + 300)) / 2,
        },
    ),
}


def offline(cache, script, *args):
    """A process without a network and with the caches of `evaluate` in a folder of its own."""
    environment = {
        **os.environ,
        "HF_HOME": str(cache / "home"),
        "HF_MODULES_CACHE": str(cache / "modules"),
        "HF_METRICS_CACHE": str(cache / "metrics"),
        "HF_EVALUATE_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-c", script, *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finished(process):
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors[-2000:]
    return output


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def loaded(cache):
    """What `evaluate.load(path).compute(...)` gives, from two processes that fill the caches at once."""
    script = """
import json, sys
import evaluate
from hf_reason.evaluation import metric_path
cases = json.loads(sys.argv[1])
out = {}
for name, inputs in cases.items():
    metric = evaluate.load(metric_path(name))
    out[name] = metric.compute(**inputs)
undefined = evaluate.load(metric_path("distractor_resistance"))
out["undefined"] = undefined.compute(predictions=["7"], clean_predictions=["8"], references=["7"])
class CharacterTokenizer:
    def __call__(self, text, add_special_tokens): return {"input_ids": list(text)}
length = evaluate.load(metric_path("reasoning_length"))
out["tokens"] = length.compute(predictions=["步骤1: 12</think>7", "7"], tokenizer=CharacterTokenizer())
print(json.dumps(out))
"""
    cases = json.dumps({name: inputs for name, (inputs, _) in CASES.items()})
    first, second = [finished(process) for process in [offline(cache, script, cases) for _ in range(2)]]
    assert list((cache / "modules").rglob("step_accuracy.py")), "the module cache is not where the test wants it"
    assert first.splitlines()[-1] == second.splitlines()[-1]
    return json.loads(first.splitlines()[-1])


@pytest.mark.parametrize("name", METRICS)
def test_evaluate_loads_each_metric_offline(loaded, name):
    expected = CASES[name][1]
    assert loaded[name].keys() == expected.keys()
    for key, value in expected.items():
        assert loaded[name][key] == pytest.approx(value, abs=5e-5), key


def test_undefined_resistance_is_none(loaded):
    assert loaded["undefined"]["distractor_resistance"] is None
    assert loaded["undefined"]["distracted_accuracy"] == 1.0


def test_tokens_until_the_answer_with_a_tokenizer(loaded):
    # 步骤1: 12</think> has 15 characters; an answer without a thought is not waited for.
    assert loaded["tokens"]["mean_tokens"] == 7.5


def test_a_copy_that_a_full_disk_has_cut_is_made_anew(loaded, cache):
    (copied,) = (cache / "modules").rglob("step_accuracy.py")
    whole = copied.read_text(encoding="utf-8")
    script = """
from hf_reason.evaluation import load_metrics
metric = load_metrics()["step_accuracy"]
print(metric.compute(predictions=["步骤1: 1+1=2"], references=[[]])["step_accuracy"])
print(load_metrics()["step_accuracy"] is metric)
"""
    copied.write_text("", encoding="utf-8")
    assert finished(offline(cache, script)).split() == ["1.0", "True"]
    assert copied.read_text(encoding="utf-8") == whole


def test_caches_that_cannot_be_written_are_named(tmp_path, monkeypatch):
    import evaluate

    from hf_reason.evaluation import metric_loading

    (tmp_path / "file").touch()
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", tmp_path / "file" / "modules")
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(
        OSError, match=r"file/modules and .* failed: .*Set HF_HOME, or HF_MODULES_CACHE and HF_METRICS"
    ):
        metric_loading._load("step_accuracy")


def test_scores_of_each_output_and_their_sum():
    """What the evaluator uses: `aggregate` of the scores that `compute` gives is what `compute` gives."""
    for name, (inputs, _) in CASES.items():
        metric = load_metrics()[name]
        scores = metric.compute(**inputs, use_aggregator=False)["scores"]
        assert len(scores) == len(inputs["predictions"])
        assert metric.aggregate(scores) == metric.compute(**inputs), name
        assert metric.compute(**{key: [] for key in inputs}) == metric.aggregate([]), name


def test_several_outputs_of_a_record_are_averaged_first():
    metric = load_metrics()["answer_accuracy"]
    inputs = {"predictions": ["7", "7", "8", "8"], "references": ["7", "7", "7", "8"]}
    figures = metric.compute(**inputs, records=[0, 0, 0, 1])
    assert figures["answer_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert figures["answer_accuracy_ci"] == list(scoring.wilson_interval(figures["answer_accuracy"], 2))
    assert (figures["num_scored"], figures["num_correct"]) == (4, 3)
    assert metric.compute(**inputs)["answer_accuracy"] == 0.75
    noisy = load_metrics()["distractor_resistance"].compute(
        clean_predictions=inputs["predictions"],
        predictions=["7", "8", "8", "8"],
        references=inputs["references"],
        records=[0, 0, 0, 1],
    )
    assert noisy["distracted_accuracy"] == pytest.approx((1 / 3 + 1) / 2)
    assert noisy["distractor_resistance"] == pytest.approx(noisy["distracted_accuracy"] / figures["answer_accuracy"])


def test_known_lengths_and_forced_ends():
    metric = load_metrics()["reasoning_length"]
    outputs = [chain("3+4=7"), chain("7×2=14")]
    figures = metric.compute(predictions=outputs, thought_tokens=[10, 20], forced=[False, True])
    assert (figures["mean_tokens"], figures["p95_tokens"], figures["close_rate"]) == (15.0, 20.0, 0.5)


@pytest.mark.parametrize("name", METRICS)
def test_each_metric_has_a_card(name):
    card = (Path(metric_path(name)) / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\ntitle: ") and f'metric_path("{name}")' in card and "## Limits" in card
    for key in CASES[name][1]:
        assert key in card or key.startswith("num_"), key


def test_an_unknown_metric_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="accuracy_of_steps.*step_accuracy"):
        metric_path("accuracy_of_steps")


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, hf_reason.evaluation as e; e.metric_path('step_accuracy'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
