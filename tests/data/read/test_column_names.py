"""Other names of columns than those of the layouts: questions, reasoning, answers, references, histories, passages."""

import pytest
from trace_files import one

Q, T, A = "小明有3个苹果，又买4个，一共几个？", "首先，原有3个。\n\n然后，3+4=7。\n\n所以是7个。", "7个"


@pytest.mark.parametrize(
    "name",
    [
        "original_question",
        "Math Problem",
        "userQuestion",
        "stem",
        "statement",
        "题面",
        "用户输入",
        "提示词",
        "問題內容",
    ],
)
def test_names_of_the_question(tmp_path, name):
    trace = one(tmp_path, {name: Q, "reasoning": T, "answer": A})
    assert (trace.context, trace.thought, trace.answer) == (Q, T, A)


@pytest.mark.parametrize(
    "name",
    [
        "derivation",
        "Worked Solution",
        "working",
        "推导过程",
        "分析过程",
        "思路",
        "推理轨迹",
        "長思維鏈",
        "內心獨白",
        "解題過程",
        "解析",
    ],
)
def test_names_of_the_reasoning(tmp_path, name):
    for columns in (("question", "answer"), ("題目", "答案"), ("instruction", "output")):
        trace = one(tmp_path, {columns[0]: Q, name: T, columns[1]: A})
        assert (trace.context, trace.thought, trace.answer) == (Q, T, A), columns


@pytest.mark.parametrize("name", ["推理时间", "思考模式", "推理步骤数", "思维难度", "推理要求等级"])
def test_a_column_about_the_reasoning_is_none(tmp_path, name):
    assert one(tmp_path, {"题目": Q, name: "很长很长的一段说明文字，但不是推理", "答案": A}).thought == ""


@pytest.mark.parametrize(
    "name",
    [
        *(
            "result",
            "final",
            "conclusion",
            "expected_answer",
            "Correct Answer",
            "golden",
            "gt",
            "gold_answer",
            "answerKey",
        ),
        *("generated_solution", "llm_response", "结果", "結論", "回應", "正确选项", "模型回答"),
    ],
)
def test_names_of_the_answer(tmp_path, name):
    trace = one(tmp_path, {"question": Q, "reasoning": T, name: A})
    assert (trace.context, trace.thought, trace.answer) == (Q, T, A)


@pytest.mark.parametrize(
    "row",
    [
        {"problem": Q, "generated_solution": f"<think>{T}</think>8个", "expected_answer": "7"},
        {"question": Q, "reasoning": T, "answer": "8个", "标准答案": "7"},
        {"prompt": Q, "llm_response": f"<think>{T}</think>8个", "ground_truth": "7"},
    ],
)
def test_the_correct_answer_beside_another_one_is_the_reference(tmp_path, row):
    trace = one(tmp_path, row)
    assert (trace.thought, trace.answer, trace.reference) == (T, "8个", "7")


TURNS = [
    [["你好", "好"]],
    [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "好"}],
    [{"question": "你好", "answer": "好"}],
]


@pytest.mark.parametrize(
    "name",
    [
        "previous_turns",
        "Prior Turns",
        "dialog_context",
        "pastConversation",
        "conversation_log",
        "上文",
        "會話歷史",
        "context",
    ],
)
@pytest.mark.parametrize("turns", TURNS, ids=["pairs", "messages", "questions"])
def test_names_of_earlier_turns(tmp_path, name, turns):
    for row in ({"question": Q, "reasoning": T, "answer": A}, {"instruction": Q, "input": "", "output": A, "cot": T}):
        trace = one(tmp_path, {**row, name: turns})
        assert trace.context == f"用户：你好\n\n助手：好\n\n用户：{Q}"
        assert (trace.thought, trace.answer) == (T, A)


@pytest.mark.parametrize(
    "context",
    [
        ["甲段。", "乙段。"],
        {"contexts": ["甲段。", "乙段。"], "labels": ["x"]},
        {"title": ["t"], "sentences": [["甲段。", "乙段。"]]},
    ],
)
def test_a_list_of_passages(tmp_path, context):
    trace = one(tmp_path, {"question": Q, "reasoning": T, "answer": A, "context": context})
    assert (trace.context, trace.task, trace.thought) == ("甲段。\n\n乙段。", Q, T)


def test_an_input_of_messages(tmp_path):
    row = {"input": [{"role": "user", "content": Q}], "output": f"<think>{T}</think>{A}", "reasoning": "on"}
    trace = one(tmp_path, {**row, "system_prompt": "detailed thinking on"})
    assert (trace.context, trace.thought, trace.answer) == (Q, T, A)
