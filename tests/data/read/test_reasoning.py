"""A reasoning column is read in every layout and every message, whatever it is called."""

import pytest
from trace_files import one, write_jsonl

from hf_reason.data.read.layouts import ADAPTERS
from hf_reason.data.read.reasoning import REASONING_NAMES, reasoning_names, reasoning_text
from hf_reason.data.read.sources import SourceError, read_traces

Q, T, A = "小明有3个苹果，又买4个，一共几个？", "首先，原有3个。\n\n然后，3+4=7。\n\n所以是7个。", "一共7个。"
ASK, SAY = {"role": "user", "content": Q}, {"role": "assistant", "content": A}
OTHER_NAMES = (
    *("Reasoning", "reasoningContent", "ReasoningContent", "Reasoning Content", "reasoning-content", "CoT", "COT"),
    *("Chain-of-Thought", "chain of thought", " thinking ", "long_cot", "r1_cot", "deepseek_r1_reasoning"),
    *("gemini_thinking_trajectory", "qwqThinking", "model_cot", "teacher_rationale", "explanation", "analysis"),
    *("推理", "思考过程", "思维链", "思維鏈", "推理過程", "思考內容"),
)
PAIRS = (
    *(("question", "answer"), ("instruction", "output"), ("input", "output"), ("prompt", "completion")),
    *(("query", "response"), ("problem", "solution"), ("Question", "Answer"), ("context", "answer")),
    *(("user", "assistant"), ("question", "final_answer"), ("題目", "答案"), ("指令", "输出"), ("input", "content")),
)
LAYOUTS = {
    "alpaca": lambda name, text: {"instruction": Q, "input": "", "output": A, "history": [], name: text},
    "message": lambda name, text: {"messages": [ASK, {**SAY, name: text}]},
    "beside messages": lambda name, text: {"messages": [ASK, SAY], name: text},
    "info": lambda name, text: {"messages": [ASK, {**SAY, "info": {name: text}}]},
    "sharegpt": lambda name, text: {
        "conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": A, name: text}]
    },
    "trl messages": lambda name, text: {"prompt": [ASK], "completion": [SAY], name: text},
    "prompt of messages": lambda name, text: {"prompt": [ASK], "response": A, name: text},
    "messages without an answer": lambda name, text: {"messages": [ASK], "answer": A, name: text},
    "api": lambda name, text: {"prompt": Q, "choices": [{"message": {**SAY, name: text}, "finish_reason": "stop"}]},
}


@pytest.mark.parametrize("pair", PAIRS, ids="/".join)
def test_columns_of_any_name(tmp_path, pair):
    question, answer = pair
    rows = [{question: Q, name: T, answer: A} for name in (*REASONING_NAMES, *OTHER_NAMES)]
    for row in rows:  # in a file each, since a file has one layout
        trace = one(tmp_path, row)
        assert (trace.context, trace.thought, trace.answer) == (Q, T, A), row


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_reads_any_name(tmp_path, layout):
    for name in (*REASONING_NAMES, *OTHER_NAMES):
        trace = one(tmp_path, LAYOUTS[layout](name, T))
        assert (trace.context, trace.thought, trace.answer) == (Q, T, A), name


def test_every_adapter_reads_a_reasoning_column():
    """Also those that are added one day."""
    for name, adapter in ADAPTERS.items():
        messages = [ASK, {"role": "assistant", "content": A}]
        row = {want.split("|")[0]: A for want in adapter.wants}
        row |= {key: messages for key in ("messages", "conversations") if key in row}
        row |= {key: [] for key in ("steps",) if key in row}
        row |= {key: [A] for key in ("generations",) if key in row}
        row |= {key: "x=?" for key in ("equation",) if key in row}
        if not reasoning_names(tuple(row)) and "solution" not in row:
            found = adapter.traces({**row, "reasoning_content": T})[-1]
            assert found.thought == T, name


@pytest.mark.parametrize("value", [True, False, 812, 3.5, "high", "off", "None", None, "", float("nan"), "高"])
@pytest.mark.parametrize("name", ["reasoning", "thinking", "cot"])
def test_a_column_that_counts_or_switches_is_no_reasoning(tmp_path, name, value):
    for other, thought in (({}, ""), ({"reasoning_content": T}, T)):
        for row in (
            {"question": Q, "answer": A, name: value, **other},
            {"messages": [ASK, {**SAY, name: value} | other]},
        ):
            trace = one(tmp_path, row)
            assert (trace.context, trace.thought, trace.answer) == (Q, thought, A), row
    assert one(tmp_path, {"question": Q, "answer": f"<think>{T}</think>{A}", name: value}).thought == T


def test_columns_about_the_reasoning():
    about = ("cot_type", "reasoning_effort", "enable_thinking", "thinkingBudget", "is_reasoning_complete", "has_cot")
    about += ("reasoning_tokens", "thought_number", "reasoning_model", "think_time", "no_think", "cotton", "rethink")
    assert reasoning_names(about) == ()


def test_parts_of_apis_are_joined():
    parts = [
        {"type": "reasoning.text", "text": T[:5], "index": 0},
        {"type": "reasoning.text", "text": T[5:], "index": 0},
    ]
    assert reasoning_text(parts, "x") == T
    parts = [
        {"type": "reasoning.summary", "summary": "甲"},
        {"type": "reasoning.encrypted", "data": "x"},
        {"text": "乙"},
    ]
    assert reasoning_text(parts, "x") == "甲\n\n乙"
    assert reasoning_text({"summary": [{"type": "summary_text", "text": T}]}, "x") == T
    assert reasoning_text(["甲", "乙"], "x") == ["甲", "乙"]
    for broken in (3, ["甲", 3], object()):
        with pytest.raises(SourceError, match="'x' must be text"):
            reasoning_text(broken, "x")


@pytest.mark.parametrize("name", ["cot", "reasoning_steps", "r1_reasoning"])
def test_a_list_of_texts_is_a_list_of_steps(tmp_path, name):
    assert one(tmp_path, {"question": Q, name: ["甲", "乙"], "answer": A}).steps == ["甲", "乙"]


def test_a_chain_under_the_name_of_steps(tmp_path):
    assert one(tmp_path, {"question": Q, "solution_steps": ["甲", "乙"], "answer": A}).steps == ["甲", "乙"]
    assert one(tmp_path, {"question": Q, "steps": T, "answer": A}).thought == T
    for count in (3, "3"):
        assert one(tmp_path, {"question": Q, "steps": count, "answer": A}).thought == ""


def test_a_solution_that_ends_in_a_box_is_a_chain(tmp_path):
    trace = one(tmp_path, {"problem": Q, "solution": "共有3个。\n再买4个。\n所以\\boxed{7}。", "level": 1})
    assert (trace.steps, trace.answer, trace.reference) == (["共有3个。", "再买4个。", "所以\\boxed{7}。"], "7", "7")


def test_a_text_alone_in_a_list(tmp_path):
    assert one(tmp_path, {"question": Q, "thinking_trajectories": [T], "answer": A}).thought == T


def test_the_answer_beside_a_reasoning_column_is_taken_as_it_is(tmp_path):
    answer = "    def f():\n\n        return '<answer>'"
    for row in ({"question": Q, "cot": T, "answer": answer}, {"instruction": Q, "cot": T, "output": answer}):
        assert one(tmp_path, row).answer == answer


def test_flags_of_one_row_do_not_change_the_next(tmp_path):
    rows = [{"question": Q, "reasoning": value, "answer": A} for value in (T, True, T, None, T)]
    assert [t.thought for t in read_traces(write_jsonl(tmp_path / "a.jsonl", rows))] == [T, "", T, "", T]
