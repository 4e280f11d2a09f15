"""Dialogues of every shape that files have."""

import json

import pytest
from trace_files import one

from hf_reason.data.read.messages import as_messages
from hf_reason.data.read.sources import SourceError, read_traces

Q, T, A = "小明有3个苹果，又买4个，一共几个？", "首先，原有3个。", "一共7个。"
S = f"<think>{T}</think>{A}"
ROLES = [{"role": "user", "content": Q}, {"role": "assistant", "content": S}]
SHAPES = {
    "sharegpt": [{"from": "human", "value": Q}, {"from": "gpt", "value": S}],
    "object of lists": {"from": ["human", "gpt"], "value": [Q, S]},
    "object of lists, roles": {"role": ["user", "assistant"], "content": [Q, A], "reasoning_content": [None, T]},
    "ms-swift": [{"human": Q, "assistant": S}],
    "xtuner": [{"system": "", "input": Q, "output": S}],
    "pairs": [[Q, S]],
    "by turns": [Q, S],
    "speakers": [{"speaker": "User", "text": Q}, {"speaker": "Assistant", "text": S}],
    "Chinese": [{"role": "使用者", "content": Q}, {"角色": "助手", "内容": S}],
    "parts": [{"role": "user", "content": [{"type": "text", "text": Q}]}, ROLES[1]],
    "nested": {"messages": ROLES},
    "thought in a turn": [ROLES[0], {"role": "thinking", "content": T}, {"role": "assistant", "content": A}],
    "harmony": [ROLES[0], {"role": "assistant", "channel": "analysis", "content": T}]
    + [{"role": "assistant", "channel": "final", "content": A}],
    "anthropic": [ROLES[0], {"role": "assistant", "content": [{"type": "thinking", "thinking": T}, {"text": A}]}],
    "thought apart": [ROLES[0], {"role": "assistant", "content": f"<think>{T}</think>"}]
    + [{"role": "assistant", "content": A}],
}


@pytest.mark.parametrize("column", ["messages", "conversations", "conversation", "Messages", "对话"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape(tmp_path, shape, column):
    for value in (SHAPES[shape], json.dumps(SHAPES[shape]), str(SHAPES[shape])):
        trace = one(tmp_path, {column: value})
        assert (trace.context, trace.thought, trace.answer, trace.closed) == (Q, T, A, True)


def test_lists_that_differ_in_length(tmp_path):
    with pytest.raises(
        SourceError, match=r"one.jsonl#1 .*'messages' holds lists that differ.*2 of 'role', 1 of 'content'"
    ):
        one(tmp_path, {"messages": {"role": ["user", "assistant"], "content": [Q]}})


def test_what_is_no_dialogue():
    for value in (None, [], 3, "text", {"a": 1}, {"role": [], "content": "x"}):
        assert as_messages(value, "x") is None


def test_a_prompt_that_begins_like_a_list_is_text(tmp_path):
    for prompt in ("[1, 2, 3] 的和？", '["a"] 是什么？', "['a', 'b']"):
        assert one(tmp_path, {"prompt": prompt, "completion": S}).context == prompt


def test_pandas_csv_of_message_arrays(tmp_path):
    import numpy as np
    import pandas as pd

    for number, messages in enumerate((ROLES, np.array(ROLES, dtype=object), {"messages": np.array(ROLES)})):
        path = tmp_path / f"{number}.csv"
        pd.DataFrame({"messages": [messages]}).to_csv(path)
        (trace,) = read_traces(path)
        assert (trace.context, trace.thought, trace.answer) == (Q, T, A)


HISTORY = [["你好", "<think>问候</think>你好！"], ["在吗", "在。"]]
TURNS = [
    {"role": role, "content": text} for pair in HISTORY for role, text in zip(("user", "assistant"), pair, strict=True)
]
BEFORE = "用户：你好\n\n助手：你好！\n\n用户：在吗\n\n助手：在。\n\n用户："
HISTORIES = {
    "pairs": HISTORY,
    "messages": TURNS,
    "json": json.dumps(HISTORY),
    "repr": str(TURNS),
    "pair objects": [{"user": user, "assistant": assistant} for user, assistant in HISTORY],
    "object of lists": {"role": [t["role"] for t in TURNS], "content": [t["content"] for t in TURNS]},
    "with the question": [*TURNS, {"role": "user", "content": Q}],
}


@pytest.mark.parametrize("shape", HISTORIES)
@pytest.mark.parametrize("name", ["history", "prev_messages", "chat_history", "历史对话"])
def test_earlier_turns_precede_the_question(tmp_path, name, shape):
    for row in (
        {"instruction": Q, "input": "", "output": S},
        {"query": Q, "response": S},
        {"question": Q, "model_reasoning": T, "model_answer": A},
        {"problem": Q, "generations": [S]},
    ):
        row[name] = HISTORIES[shape]
        trace = one(tmp_path, row)
        assert (trace.context, trace.thought, trace.answer) == (BEFORE + Q, T, A)
        if shape != "with the question":
            continue
        keep = one(tmp_path, row, history="keep")
        assert keep.context == (BEFORE + Q).replace("助手：你好！", "助手的思考：问候\n\n助手：你好！")
        split = list(read_traces(tmp_path / "one.jsonl", history="split"))
        assert [(t.context, t.thought) for t in split] == [("你好", "问候"), (BEFORE + Q, T)]


@pytest.mark.parametrize("column", ["conversation", "messages", "conversations", "history"])
def test_a_dialogue_beside_a_question_is_its_history(tmp_path, column):
    row = {column: TURNS, "question": Q, "reasoning": T, "answer": A}
    assert one(tmp_path, row).context == BEFORE + Q
    row[column] = [*TURNS, {"role": "user", "content": Q}]
    trace = one(tmp_path, row)
    assert (trace.context, trace.thought, trace.answer) == (BEFORE + Q, T, A)


def test_history_before_messages(tmp_path):
    assert one(tmp_path, {"history": HISTORY, "messages": ROLES}).context == BEFORE + Q
    assert one(tmp_path, {"history": HISTORY, "prompt": ROLES[:1], "completion": ROLES[1:]}).context == BEFORE + Q


@pytest.mark.parametrize("name", ["system", "system_prompt", "系统提示"])
def test_a_system_column(tmp_path, name):
    told = "税率是13%，按2024年计算。"
    for row in ({"instruction": Q, "output": S}, {"question": Q, "cot": T, "answer": A}, {"messages": ROLES}):
        assert one(tmp_path, {**row, name: told}).context == f"{told}\n\n{Q}"
        assert one(tmp_path, {**row, name: "You are a helpful assistant."}).context == Q


def test_broken_histories_are_named(tmp_path):
    with pytest.raises(SourceError, match=r"one.jsonl#1 .*history\[1\].*'wizard'"):
        one(tmp_path, {"instruction": Q, "output": S, "history": [{"role": "wizard", "content": "x"}]})
    assert (
        one(tmp_path, {"instruction": Q, "output": S, "history": "上文谈到了税。"}).context == f"上文谈到了税。\n\n{Q}"
    )


@pytest.mark.parametrize("empty", [None, [], "", "[]", [[]], [["", ""]], [None], float("nan"), {}])
def test_an_empty_history_is_none(tmp_path, empty):
    assert one(tmp_path, {"instruction": Q, "output": S, "history": empty}).context == Q


def test_turns_that_are_not_trained_are_no_traces(tmp_path):
    first = {"role": "assistant", "content": "<think>甲</think>乙"}
    for mark in ({"weight": 0}, {"train": False}, {"loss": False}):
        row = {"messages": [{"role": "user", "content": "问"}, {**first, **mark}, *ROLES]}
        assert one(tmp_path, row, history="split").thought == T


# Tools


def calls(arguments):
    return {"name": "set_time", "arguments": arguments}


CALLS = {
    "role": {"role": "tool_call", "content": json.dumps(calls({"time": None, "城": "北京"}))},
    "object": {"role": "function_call", "content": calls({"time": None, "城": "北京"})},
    "sharegpt": {"from": "function_call", "value": str(calls({"time": None, "城": "北京"}))},
    "tool_calls": {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": calls({"time": None, "城": "北京"})}],
    },
    "text": {"role": "assistant", "tool_calls": [{"function": calls('{"time": null, "城": "北京"}')}]},
    "legacy": {"role": "assistant", "content": None, "function_call": calls('{"time": null, "城": "北京"}')},
    "anthropic": {
        "role": "assistant",
        "content": [{"type": "tool_use", "name": "set_time", "input": {"time": None, "城": "北京"}}],
    },
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_keeps_its_arguments_as_json(tmp_path, call):
    result = {"role": "observation", "content": {"ok": None, "时": 1}}
    trace = one(tmp_path, {"messages": [ROLES[0], CALLS[call], result, ROLES[1]]})
    assert trace.context == (
        f'用户：{Q}\n\n助手：set_time({{"time": null, "城": "北京"}})\n\n工具结果：{{"ok": null, "时": 1}}'
    )
    last = one(tmp_path, {"messages": [ROLES[0], CALLS[call]]})
    assert last.answer == 'set_time({"time": null, "城": "北京"})'


def test_a_call_belongs_to_the_thought_before_it(tmp_path):
    thought = {"from": "gpt", "value": f"<think>{T}</think>"}
    trace = one(tmp_path, {"conversations": [{"from": "human", "value": Q}, thought, CALLS["sharegpt"]]})
    assert (trace.thought, trace.answer) == (T, 'set_time({"time": null, "城": "北京"})')


def test_results_in_turns_of_the_user(tmp_path):
    result = {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "21度"}]}]}
    assert "工具结果：21度" in one(tmp_path, {"messages": [ROLES[0], CALLS["anthropic"], result, ROLES[1]]}).context


def test_arguments_that_arrow_added_go(tmp_path):
    from datasets import Dataset

    rows = [
        {"messages": [ROLES[0], {"role": "assistant", "content": "", "tool_calls": [{"function": call}]}]}
        for call in ({"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": {"y": "2"}})
    ]
    Dataset.from_list(rows).to_parquet(str(tmp_path / "a.parquet"))
    assert [trace.answer for trace in read_traces(tmp_path / "a.parquet")] == ['f({"x": 1})', 'g({"y": "2"})']
