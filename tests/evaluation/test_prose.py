"""Models that write no thought in tags: their prose has steps and a length, and no close-rate."""

import pytest
from test_evaluator import run

from hf_reason.evaluation import format_table, load_metrics
from hf_reason.evaluation.prose import is_prose, read_prose

PROSE = [
    "甲有3个,又来4个,一共3+4=7个。翻倍后有7×2=14个。\n\n所以答案是14个。",
    "先算用去的:9-4=6。\n因此还剩6元。",
    "1. 每天走2里\n2. 走3天,共2×3=6里\n\n答：6里",
    "丁是学生",
]


def test_the_figures_are_those_of_the_prose(tokenizer, tmp_path):
    results = run(tokenizer, PROSE, return_predictions=True)
    first, second, third, fourth = results.predictions
    assert first["steps"] == ["甲有3个,又来4个,一共3+4=7个。", "翻倍后有7×2=14个。"]
    assert second["steps"] == ["先算用去的:9-4=6。"] and third["steps"] == ["每天走2里", "走3天,共2×3=6里"]
    assert (fourth["steps"], fourth["answer"], fourth["thought_tokens"]) == ([], "丁是学生", 0)
    assert [row["correct"] for row in results.predictions] == [True, False, True, True]
    for row, text in zip((first, second, third), PROSE[:3], strict=True):
        head = text[: read_prose(text)[1]]
        ids, count = tokenizer(text, add_special_tokens=False)["input_ids"], row["thought_tokens"]
        assert len(tokenizer.decode(ids[: count - 1])) < len(head) <= len(tokenizer.decode(ids[:count])) > 5
        assert row["answer"] == text and row["closed"] is None
    assert (results.step_accuracy, results.key_node_coverage) == (3 / 4, 3 / 4)
    assert results.reasoning_length.mean_steps == 5 / 4 and results.reasoning_length.mean_tokens > 5
    assert sum(results.reasoning_length.histogram.closed) == 4
    assert results.close_rate is None and results.by_domain["math"].close_rate is None
    table = format_table(results)
    assert "Note on thought closed: no output has a thought in tags, so the steps are those of the prose." in table
    assert "closed its thought" not in table


def test_english_prose(tokenizer):
    outputs = [
        "We have 3+4=7. Doubling gives 7*2=14.\n\nTherefore, the answer is \\boxed{14}.",
        "9 - 4 = 5\n\n**Answer: 5元**",
        "Step 1: each day 2 li.\nStep 2: 2*3=6.\nThe final answer is 6里.",
        "I do not know.",
    ]
    results = run(tokenizer, outputs, return_predictions=True)
    assert [len(row["steps"]) for row in results.predictions[:3]] == [2, 1, 2]
    assert results.step_accuracy == 1.0 and results.close_rate is None
    assert [row["correct"] for row in results.predictions[:3]] == [True, True, True]


@pytest.mark.parametrize(
    "tag", ["<think>\n步骤1: 3+4=7", "3+4=7\n</think>\n\n14", "步骤1: 3+4=7", "<think></think>14"]
)
def test_one_output_with_a_tag_says_that_the_model_knows_them(tokenizer, tag):
    """Then an output without any has failed to think, which is no prose."""
    results = run(tokenizer, [*PROSE[:3], tag], return_predictions=True)
    assert results.close_rate == (0.25 if "</think>" in tag else 0.0)
    assert [row["thought_tokens"] for row in results.predictions[:3]] == [0, 0, 0]
    assert not is_prose([*PROSE, tag])


def test_where_tags_are_expected_or_no_thought_is_asked_for(tokenizer):
    from chat_templates import R1_PREFILL_TEMPLATE, R1_TEMPLATE

    assert run(tokenizer, PROSE, tagged=True).close_rate == 0.0
    tokenizer.chat_template = R1_TEMPLATE  # which has no switch
    assert run(tokenizer, PROSE, thinking=False).close_rate == 0.0
    tokenizer.chat_template = R1_PREFILL_TEMPLATE  # the prompt opens the thought, so a cut one is no prose
    assert run(tokenizer, PROSE).close_rate == 0.0
    assert not is_prose(["", " \n"]) and not is_prose([])


def test_the_metrics_read_prose_too():
    metrics, references = load_metrics(), [["3+4=7", "7×2=14"]]
    steps = metrics["step_accuracy"].compute(predictions=PROSE[:1], references=references, prose=True)
    assert (steps["step_accuracy"], steps["num_steps"]) == (1.0, 2)
    nodes = metrics["key_node_coverage"].compute(predictions=PROSE[:1], references=references, prose=True)
    assert nodes["key_node_coverage"] == 1.0
    lengths = metrics["reasoning_length"].compute(predictions=PROSE[:1], prose=True)
    assert (lengths["close_rate"], lengths["mean_steps"]) == (None, 2.0)
    assert lengths["mean_characters"] == PROSE[0].rindex("14")
    assert metrics["reasoning_length"].compute(predictions=PROSE[:1])["close_rate"] == 0.0


@pytest.mark.parametrize(
    ("text", "steps", "answer"),
    [
        ("14", [], "14"),
        ("The answer is (C).", [], "(C)"),
        ("正确选项为C", [], "C"),
        ("先算3+4=7。\n再算7×2=14", ["先算3+4=7。", "再算7×2=14"], "再算7×2=14"),
        ("3+4=7\n\n因此，一共7個。", ["3+4=7"], "因此，一共7個"),
        ("We get 3+4=7. So the answer is 7.", ["We get 3+4=7."], "7."),
        (r"由题意 $x_1=\boxed{3}$。", [], "3"),
        ("\n\n", [], ""),
    ],
)
def test_where_prose_comes_to_its_answer(text, steps, answer):
    found, start = read_prose(text)
    assert found == steps and text[start:].startswith(answer)
