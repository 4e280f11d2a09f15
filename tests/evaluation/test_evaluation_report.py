"""The report: a table that can be read, JSON that can be read back, plots that show what is there."""

import json
import re

import pytest

from hf_reason.evaluation import EvaluationResult, format_table, load_metrics, load_report, save_report
from hf_reason.evaluation.aggregate import ScoredOutput, Summary
from hf_reason.evaluation.scoring import LengthScore, StepScore

NO_STEPS = StepScore()


def scored(record, domain, reference_steps, correct, length, steps=NO_STEPS, coverage=(0, 0), chinese=None):
    scores = {
        "answer_accuracy": (record, correct),
        "step_accuracy": steps,
        "key_node_coverage": coverage,
        "reasoning_length": length,
    }
    return ScoredOutput(record, domain, reference_steps, length.tokens, length.closed, chinese, scores)


def summarise(outputs, **run):
    return Summary(load_metrics()).result(outputs, **run)


def make_results(right, count=24, loops=0, predictions=False):
    """Figures of `count` outputs of which every `right`-th is wrong (0: none)."""
    outputs = [
        scored(
            number,
            ("math", "finance", "general")[number % 3],
            2 + number % 4,
            not (right and number % right == 0),
            LengthScore(10 + 7 * number, 20, 3, closed=number % 8 != 0, loops=number < loops),
            StepScore(3, 2, 2, 1),
            (1, 2),
            0.9,
        )
        for number in range(count)
    ]
    rows = [{"id": str(number), "text": "步骤1: 好"} for number in range(2)]
    return summarise(outputs, distractor_resistance=0.875, predictions=rows if predictions else None)


def row_of(table, label):
    (line,) = (line for line in table.splitlines() if re.match(rf"│ +{re.escape(label)} +│", line))
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_the_table_of_one_model():
    table = format_table(make_results(4))
    assert row_of(table, "answer accuracy")[1] == "75.0%"
    assert row_of(table, "95% interval")[1] == "55.1 - 88.0"
    assert row_of(table, "step accuracy")[1] == "50.0%"
    assert row_of(table, "distractor resistance")[1] == "0.875"
    assert row_of(table, "records x samples")[1] == "24 x 1"
    assert row_of(table, "finance")[1:] == ["8", "75.0%"]
    assert row_of(table, "2")[1:] == ["6", "0.0%"]
    assert "accuracy with a distractor" not in table, "a row without a figure is left out"


def test_models_side_by_side_with_the_difference_to_the_baseline():
    table = format_table({"direct": make_results(2), "reasoner": make_results(4)}, baseline="direct")
    assert row_of(table, "answer accuracy")[1:] == ["50.0%", "75.0% (+25.0)"]
    assert row_of(table, "finance")[2:] == ["50.0%", "75.0% (+25.0)"]
    assert "(" not in row_of(format_table({"a": make_results(2), "b": make_results(4)}), "answer accuracy")[2]
    against = format_table(make_results(4), baseline=make_results(2))
    assert row_of(against, "answer accuracy")[1:] == ["50.0%", "75.0% (+25.0)"]


def test_groups_that_only_one_model_has_and_numbers_in_their_order():
    few, many = make_results(4), make_results(4)
    many["by_num_steps"] = {"11-20": few["by_num_steps"]["2"], "41+": few["by_num_steps"]["3"]}
    table = format_table({"few": few, "many": many})
    assert row_of(table, "11-20")[2:] == ["-", "0.0%"]
    places = [table.index(f"│ {name} ") for name in ("2", "5", "11-20", "41+")]
    assert places == sorted(places)


def test_names_in_brackets_are_not_taken_for_markup():
    assert "[bold]x" in format_table({"[bold]x": make_results(4)})


def test_what_holds_no_results_is_refused():
    with pytest.raises(ValueError, match="'a' does not hold results"):
        format_table({"a": {"loss": 1}})
    with pytest.raises(ValueError, match="baseline 'c' is not among the models a, b"):
        format_table({"a": make_results(2), "b": make_results(3)}, baseline="c")


@pytest.mark.parametrize("several", [False, True])
def test_the_report_is_written_whole(tmp_path, several):
    single = make_results(4, loops=2, predictions=True)
    results = {"base model": make_results(2), "推理": single} if several else single
    folder = tmp_path / "new" / "report"
    paths = save_report(results, folder)
    save_report(results, folder)  # writes over the first
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in paths.values())
    data = json.loads(paths["json"].read_text(encoding="utf-8"))
    read = data["推理"] if several else data
    assert read["answer_accuracy"] == single["answer_accuracy"] and "predictions" not in read
    assert read["by_num_steps"] == single["by_num_steps"], "the same keys before and after JSON"
    assert format_table(data) == format_table(results)
    lines = paths["predictions"].read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["步骤1: 好"] * 2
    for name in ("accuracy_by_num_steps", "accuracy_by_domain", "reasoning_length"):
        assert paths[name].read_bytes().startswith(b"\x89PNG") and paths[name].stat().st_size > 5000


def test_plots_show_the_figures(monkeypatch, recwarn):
    from hf_reason.evaluation import plots

    figures = {}
    monkeypatch.setattr(plots, "_png", lambda figure: figures.setdefault(len(figures), figure) and b"")
    results = make_results(4)
    plots.draw_plots({"模型": results})
    steps, domains, lengths = (figure.axes[0] for figure in figures.values())
    assert [bar.get_height() for bar in steps.patches] == [
        100 * row["answer_accuracy"] for row in results["by_num_steps"].values()
    ]
    assert [label.get_text() for label in domains.get_xticklabels()] == ["finance\nn=8", "math\nn=8", "general\nn=8"]
    histogram = results["reasoning_length"]["histogram"]
    assert [bar.get_height() for bar in lengths.patches] == histogram["closed"] + histogram["open"]
    for axes in (steps, domains, lengths):
        assert axes.get_xlabel() and axes.get_ylabel() and (axes.get_xlabel() + axes.get_ylabel()).isascii()
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_results_without_a_single_scored_answer_can_be_shown(tmp_path):
    results = summarise([scored(0, "code", 1, None, LengthScore(0, 0, 0, True, False))])
    assert row_of(format_table(results), "code")[2] == "-"
    assert save_report(results, tmp_path)["json"].exists()


def test_a_figure_that_cannot_be_had_is_a_dash_with_a_reason():
    results = summarise([scored(0, "code", 1, None, LengthScore(0, 0, 0, True, False))])
    table = format_table(results)
    for label in ("answer accuracy", "step accuracy", "steps with an equation", "key-node coverage"):
        assert row_of(table, label)[1] == "-"
    assert "Note on answer accuracy: no record has an answer to compare with." in table
    assert "Note on step accuracy: no step of the outputs states an equation." in table
    assert "Note on key-node coverage: no step of the references states an equation." in table
    assert "distractor" not in table and "Chinese" not in table, "not asked for, or does not apply"
    beside = format_table({"code": results, "math": make_results(4)})
    assert row_of(beside, "answer accuracy")[1:] == ["-", "75.0%"]
    assert "Note on answer accuracy of code: no record" in beside
    nothing_right = make_results(1)
    nothing_right.distracted_accuracy, nothing_right.distractor_resistance = 0.0, None
    table = format_table(nothing_right)
    assert row_of(table, "distractor resistance")[1] == "-" and row_of(table, "answer accuracy")[1] == "0.0%"
    assert "Note on distractor resistance: the accuracy without a distractor is 0." in table
    assert "Note" not in format_table(make_results(4))
    some = summarise(
        [scored(number, "math", 2, (True, None)[number % 2], LengthScore(5, 5, 1, True, False)) for number in range(4)]
    )
    assert "Note on answer accuracy: 2 of 4 records have an answer to compare with." in format_table(some)
    assert "num_scored" not in make_results(4).to_dict() and some.to_dict()["by_domain"]["math"]["num_scored"] == 2


def test_a_bar_that_cannot_be_had_is_a_dash(monkeypatch):
    from hf_reason.evaluation import plots

    figures = []
    monkeypatch.setattr(plots, "_png", lambda figure: figures.append(figure) or b"")
    length = LengthScore(5, 5, 1, True, False)
    plots.draw_plots({"a": summarise([scored(0, "math", 2, False, length), scored(1, "code", 3, None, length)])})
    axes = figures[1].axes[0]
    assert [bar.get_height() for bar in axes.patches] == [0.0], "nothing right is a bar of height 0"
    assert [text.get_text() for text in axes.texts] == ["-"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["math\nn=1", "code\nn=1"]


def test_a_report_is_read_back(tmp_path):
    single = make_results(4, predictions=True)
    paths = save_report(single, tmp_path)
    (read,) = load_report(tmp_path).values()
    assert read == load_report(paths["json"])["model"] and read.predictions is None
    assert read.by_domain["math"].reasoning_length.mean_steps == 3.0
    single.predictions = None
    assert read == single
    both = {"a": make_results(2), "b": make_results(4)}
    save_report(both, tmp_path)
    assert load_report(tmp_path) == both
    with pytest.raises(ValueError, match="There is no evaluation in .*nothing"):
        load_report(tmp_path / "nothing")
    paths["json"].write_text("[1]")
    with pytest.raises(ValueError, match="is not an evaluation that save_report wrote"):
        load_report(tmp_path)


def test_files_of_earlier_versions_are_read(tmp_path):
    """A file of version 0.1 as it was written, but for its groups."""
    figures = {
        "answer_accuracy": 0.5,
        "answer_accuracy_ci": [0.15, 0.85],
        "step_accuracy": 0.5,
        "equations_hold": 0.75,
        "checkable_share": 0.6,
        "key_node_coverage": None,
        "reasoning_length": {"mean_tokens": 9.0, "median_tokens": 8.0, "p95_tokens": 12.0, "mean_steps": 2.0},
        "close_rate": 1.0,
        "repeat_rate": 0.0,
        "language_ratio": 1.0,
        "num_records": 4,
    }
    histogram = {"edges": [0, 10, 20], "closed": [3, 1], "open": [0, 0]}
    old = {
        **figures,
        "reasoning_length": {**figures["reasoning_length"], "histogram": histogram},
        "by_domain": {"math": figures},
        "by_num_steps": {"2": figures},
        "distracted_accuracy": None,
        "distractor_resistance": None,
        "num_samples": 2,
        "seed": 3,
        "template_hash": "0123456789ab",
        "generation": {"max_new_tokens": 9},
    }
    (tmp_path / "evaluation.json").write_text(json.dumps(old))
    result = load_report(tmp_path)["model"]
    assert (result.checkable_share, result.by_num_steps["2"].num_records, result.vote) == (0.6, 4, False)
    assert result.to_dict() == {**old, "vote": False}, "the keys of the file have not changed"
    assert list(result.to_dict()) == [*list(old)[:-3], "vote", *list(old)[-3:]]
    assert row_of(format_table(result), "records x samples")[1] == "4 x 2"


def test_a_result_is_read_by_name_and_by_attribute():
    result = make_results(4)
    assert result["step_accuracy"] == result.get("step_accuracy") == result.step_accuracy == 0.5
    assert result["by_domain"]["math"]["num_records"] == result.by_domain["math"].num_records == 8
    assert "predictions" not in result and result.get("predictions") is None and "step_accuracy" in result
    with pytest.raises(KeyError):
        result["predictions"]
    with pytest.raises(AttributeError):
        result.step_acuracy  # noqa: B018
    with pytest.raises(KeyError, match="no figure 'step_acuracy'"):
        result["step_acuracy"] = 1
    assert EvaluationResult.from_dict(result) is result
    assert EvaluationResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result == result.to_dict()
    assert {**result}["close_rate"] == result.close_rate
    with pytest.raises(ValueError, match="no results of evaluate_model"):
        EvaluationResult.from_dict({"loss": 1.0})
