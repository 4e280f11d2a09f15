"""The report: a table that can be read, JSON that can be read back, plots that show what is there."""

import json
import re

import pytest

from hf_reason.evaluation import format_table, save_report
from hf_reason.evaluation.aggregate import ScoredOutput, all_figures
from hf_reason.evaluation.scoring import StepScore


def make_results(right, count=24, loops=0, predictions=False):
    """Figures of `count` outputs of which every `right`-th is wrong (0: none)."""
    outputs = [
        ScoredOutput(
            record=number,
            domain=("math", "finance", "general")[number % 3],
            reference_steps=2 + number % 4,
            correct=not (right and number % right == 0),
            steps=3,
            step_score=StepScore(3, 2, 2, 1),
            covered=1,
            key_results=2,
            thought_tokens=10 + 7 * number,
            closed=number % 8 != 0,
            loops=number < loops,
            chinese=0.9,
        )
        for number in range(count)
    ]
    results = all_figures(outputs) | {"num_samples": 1, "seed": 0, "distractor_resistance": 0.875}
    rows = [{"id": str(number), "text": "步骤1: 好"} for number in range(2)]
    return results | ({"predictions": rows} if predictions else {})


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
    outputs = [ScoredOutput(0, "code", 1, None, 0, StepScore(), 0, 0, 0, True, False, None)]
    results = all_figures(outputs) | {"num_samples": 1}
    assert row_of(format_table(results), "code")[2] == "-"
    assert save_report(results, tmp_path)["json"].exists()
