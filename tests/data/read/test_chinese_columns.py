"""Chinese names of columns work in every layout of a single record."""

import csv

import pytest
from trace_files import one

from hf_reason.data.read.chinese_columns import KNOWN_NAMES, english_columns
from hf_reason.data.read.sources import read_traces

Q, T, A = "小明有3个苹果，又买4个，一共几个？", "首先，原有3个。\n\n然后，3+4=7。\n\n所以是7个。", "7个"


@pytest.mark.parametrize("question", ["题目", "问题", "题干", "提问"])
@pytest.mark.parametrize("thought", ["推理", "推理过程", "思考过程", "思维链", "解析"])
@pytest.mark.parametrize("answer", ["答案", "回答", "标准答案", "参考答案"])
def test_question_reasoning_and_answer(tmp_path, question, thought, answer):
    trace = one(tmp_path, {question: Q, thought: T, answer: A})
    assert (trace.context, trace.thought, trace.answer) == (Q, T, A)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"上下文": Q, "任务": "求和", "步骤": ["3+4=7"], "答案": A}, (Q, "求和", ["3+4=7"], None, A)),
        ({"背景": Q, "推理要求": "求和", "步骤": '["3+4=7"]'}, (Q, "求和", ["3+4=7"], None, "3+4=7")),
        ({"背景": Q, "任务": "求和", "步骤": T, "答案": A}, (Q, "求和", None, T, A)),
        ({"背景": "共有3个。", "问题": "几个？", "思考过程": T, "答案": A}, ("共有3个。", "几个？", None, T, A)),
        ({"题目": Q, "步骤": ["3+4=7"], "答案": A}, (Q, "", ["3+4=7"], None, A)),
        ({"指令": "求和", "输入": Q, "输出": f"<think>{T}</think>{A}"}, (f"求和\n\n{Q}", "", None, T, A)),
        ({"指令": "求和", "输入": Q, "推理": T, "输出": A}, (f"求和\n\n{Q}", "", None, T, A)),
        ({"输入": Q, "推理过程": T, "输出": A}, (Q, "", None, T, A)),
        ({"题目": Q, "解答": T, "答案": A}, (Q, "", None, T, A)),
        ({"题目": Q, "思考过程": T, "解答": A}, (Q, "", None, T, A)),
        ({"对话": [{"role": "user", "content": Q}, {"role": "assistant", "content": f"<think>{T}</think>{A}"}]},)
        + ((Q, "", None, T, A),),
    ],
)
def test_other_layouts(tmp_path, row, expected):
    if "推理要求" in row:
        row = {**row, "答案": "3+4=7"}
    trace = one(tmp_path, row)
    assert (trace.context, trace.task, trace.steps, trace.thought, trace.answer) == expected


def test_domain_and_reference(tmp_path):
    trace = one(tmp_path, {"问题": Q, "思考过程": T, "回答": "一共7个。", "标准答案": "7", "领域": "数学"})
    assert (trace.answer, trace.reference, trace.domain) == ("一共7个。", "7", "数学")


def test_a_csv_keeps_answers_that_look_like_lists(tmp_path):
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["问题", "思考过程", "答案"], ["求集合", T, '["2", "3"]']])
    (trace,) = read_traces(path)
    assert (trace.thought, trace.answer) == (T, '["2", "3"]')


def test_english_names_win_and_other_rows_are_untouched():
    row = {"question": Q, "问题": "x", "answer": A}
    assert english_columns(row)["question"] == Q
    plain = {"question": Q, "answer": A, 3: "x"}
    assert english_columns(plain) is plain
    assert len(KNOWN_NAMES) == len(set(KNOWN_NAMES))
