"""Thoughts and dialogues: tags are never doubled or lost, and earlier turns go where the policy says."""

import json

import pytest
from trace_files import one, write_jsonl

from hf_reason.data.read.sources import SourceError, read_traces
from hf_reason.data.read.think_tags import join_thought, split_thought
from hf_reason.data.record import RawTrace

Q, T, A = "小明有3个苹果，又买4个，一共几个？", "首先，原有3个。\n\n然后，3+4=7。\n\n所以是7个。", "一共7个。"
ASK = {"role": "user", "content": Q}


def flat(trace: RawTrace) -> str:
    return f"{trace.context}\n{trace.thought}\n{trace.answer}"


# Thoughts


@pytest.mark.parametrize(
    ("message", "thought", "answer", "closed"),
    [
        ("<think>\nt\n</think>\n\na", "t", "a", True),
        ("t\n</think>\n\na", "t", "a", True),  # the opening tag stood in the prompt
        ("<think>\n<think>\nt\n</think>\na", "t", "a", True),
        ("<think>t</think>\n</think>\na", "t", "a", True),
        ("<think>t is cut", "t is cut", "", False),
        ("<think></think>a", "", "a", True),
        ("<think>t <answer>a</answer>", "t", "a", False),
        ("<think>t</think><answer>a</answer>", "t", "a", True),
        ("<think>t</think><answer>a is cut", "t", "a is cut", True),
        ("Sure. <think>t</think>a", "t", "Sure. \n\na", True),
        ("<think>t</think>a<think>u</think>b", "t\n\nu", "a\n\nb", True),
        ("Use the <output> element.", "", "Use the <output> element.", True),
        ("Mark it as <answer>x</answer> please.", "", "Mark it as <answer>x</answer> please.", True),
        ("<Thought>t</Thought>\n<Output>a</Output>", "t", "a", True),
    ],
)
def test_tags(message, thought, answer, closed):
    parts = split_thought(message)
    assert (parts.thought, parts.answer, parts.closed) == (thought, answer, closed)


def test_a_thought_column_with_tags_of_its_own():
    for thought in ("t", "<think>t</think>", "<think>\nt", "t</think>"):
        for content in ("a", "<think>t</think>a", "<answer>a</answer>"):
            parts = join_thought(thought, content)
            assert (parts.thought, parts.answer, parts.closed) == ("t", "a", True)


# Dialogues


def dialogue(
    first: str = "<think>想一</think>答一", second: str = "<think>想二</think>答二", system: str = ""
) -> dict:
    turns = [("user", "问一"), ("assistant", first), ("user", "问二"), ("assistant", second)]
    head = [{"role": "system", "content": system}] if system else []
    return {"messages": head + [{"role": role, "content": content} for role, content in turns]}


def test_history_is_dropped_kept_or_split(tmp_path):
    drop = one(tmp_path, dialogue())
    assert (drop.context, drop.thought, drop.answer) == ("用户：问一\n\n助手：答一\n\n用户：问二", "想二", "答二")
    keep = one(tmp_path, dialogue(), history="keep")
    assert keep.context == "用户：问一\n\n助手的思考：想一\n\n助手：答一\n\n用户：问二"
    assert (keep.thought, keep.answer) == ("想二", "答二")
    split = list(read_traces(tmp_path / "one.jsonl", history="split"))
    assert [(trace.context, trace.thought, trace.answer) for trace in split] == [
        ("问一", "想一", "答一"),
        (drop.context, "想二", "答二"),
    ]
    with pytest.raises(SourceError, match="history policy 'all'.*drop, keep, split"):
        read_traces(tmp_path / "one.jsonl", history="all")


@pytest.mark.parametrize("history", ["drop", "keep", "split"])
@pytest.mark.parametrize("second", ["<think>想二</think>答二", "<think><think>想二</think>答二", "想二</think>答二"])
def test_think_is_never_doubled_nor_lost(tmp_path, history, second):
    write_jsonl(tmp_path / "d.jsonl", [dialogue(first="想一</think>答一", second=second)])
    traces = list(read_traces(tmp_path / "d.jsonl", history=history))
    assert [trace.thought for trace in traces][-1] == "想二"
    assert len(traces) == (2 if history == "split" else 1)
    assert not [trace for trace in traces if "think>" in flat(trace)]


def test_thought_in_tags_and_in_a_field_is_one_thought(tmp_path):
    row = dialogue()
    row["messages"][-1]["reasoning_content"] = "想二"
    trace = one(tmp_path, row)
    assert (trace.thought, trace.answer) == ("想二", "答二")


def test_a_turn_without_a_thought_is_no_trace_when_split(tmp_path):
    write_jsonl(tmp_path / "d.jsonl", [dialogue(first="答一")])
    assert [trace.answer for trace in read_traces(tmp_path / "d.jsonl", history="split")] == ["答二"]
    assert one(tmp_path, dialogue(second="答二")).thought == ""


def test_prefilled_prompts(tmp_path):
    texts = one(tmp_path, {"prompt": f"{Q}\n<think>\n", "completion": f"{T}\n</think>\n\n{A}"})
    prefilled = [ASK, {"role": "assistant", "content": "<think>\n"}]
    turns = one(tmp_path, {"prompt": prefilled, "completion": [{"role": "assistant", "content": f"{T}</think>{A}"}]})
    assert [(t.context.strip(), t.thought, t.answer) for t in (texts, turns)] == [(Q, T, A)] * 2


@pytest.mark.parametrize(
    ("system", "kept"),
    [
        ("You are a helpful assistant.", False),
        ("You are Qwen, created by Alibaba Cloud. You are a helpful assistant.", False),
        ("你是一个有用的助手。", False),
        ("Think in <think> tags, then answer in <answer> tags.", False),
        ("本店周末打八折，会员再减五元。", True),
        ("You are a tax adviser. The rate is 13%. Answer for the year 2024 only.", True),
    ],
)
def test_a_system_text_is_kept_when_it_says_something(tmp_path, system, kept):
    context = one(tmp_path, dialogue(system=system)).context
    assert context.startswith(system if kept else "用户：问一")


def test_tools_calls_and_results_are_readable(tmp_path):
    call = {"function": {"name": "lookup", "arguments": '{"city": "Rome", "day": null}'}}
    row = {
        "tools": json.dumps(
            [{"function": {"name": "lookup", "description": "Weather", "parameters": {"city": "str"}}}]
        ),
        "messages": [
            {"role": "user", "content": "How warm is it in Rome?"},
            {"role": "assistant", "content": None, "reasoning_content": "Look it up.", "tool_calls": [call]},
            {"role": "tool", "content": '[{"name": "lookup", "content": "21 degrees"}]'},
            {"role": "assistant", "content": "It is 21 degrees.", "reasoning_content": "The tool says 21."},
        ],
    }
    trace = one(tmp_path, row)
    assert trace.context == (
        "Available tools:\n- lookup(city): Weather\n\nUser: How warm is it in Rome?\n\n"
        'Assistant: lookup({"city": "Rome", "day": null})\n\nTool result: 21 degrees'
    )
    row["messages"] = row["messages"][:2]
    assert one(tmp_path, row).answer == 'lookup({"city": "Rome", "day": null})'


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([ASK], "no assistant turn"),
        ([{"role": "wizard", "content": "x"}], "role 'wizard'"),
        ([{"role": "user", "content": 3}], r"messages\[1\].* must be text, not int"),
        ([ASK, {"role": "assistant", "content": A, "reasoning_content": 3}], r"messages\[2\]\.reasoning_content"),
        (["hello"], "must be a message"),
    ],
)
def test_broken_dialogues(tmp_path, messages, complaint):
    with pytest.raises(SourceError, match=f"one.jsonl#1 .*{complaint}"):
        one(tmp_path, {"messages": messages})
