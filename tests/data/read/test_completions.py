"""What APIs return, with the question in the same row, is a dialogue; signs that it was cut are kept."""

import json

import pytest
from trace_files import one

from hf_reason.data.read.sources import SourceError

Q, T, A = "小明有3个苹果，又买4个，一共几个？", "首先，原有3个。", "一共7个。"
ASK = {"role": "user", "content": Q}
SAY = {"role": "assistant", "content": A, "reasoning_content": T}
CHAT = {"id": "x", "object": "chat.completion", "choices": [{"index": 0, "message": SAY, "finish_reason": "stop"}]}
CLAUDE = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "thinking", "thinking": T, "signature": "s"}, {"type": "text", "text": A}],
    "stop_reason": "end_turn",
}
DUMPS = {
    "prompt and answer": {"prompt": Q, "response": CHAT},
    "as text": {"question": Q, "response": json.dumps(CHAT)},
    "messages and answer": {"messages": [ASK], "response": CHAT},
    "messages and choices": {"messages": [ASK], **CHAT, "model": "deepseek-reasoner"},
    "batch": {"custom_id": "1", "body": {"messages": [ASK]}, "response": {"status_code": 200, "body": CHAT}},
    "batch with request": {"request": {"body": {"messages": [ASK]}}, "response": {"body": CHAT}},
    "openrouter": {
        "prompt": Q,
        "choices": [
            {
                "message": {"content": A, "reasoning_details": [{"type": "reasoning.text", "text": T}]},
                "finish_reason": "stop",
            }
        ],
    },
    "text": {"prompt": Q, "choices": [{"text": f"<think>{T}</think>{A}", "finish_reason": "stop"}]},
    "responses": {
        "input": Q,
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": T}]},
            {"type": "message", "content": [{"type": "output_text", "text": A}]},
        ],
        "status": "completed",
    },
    "anthropic": {"prompt": Q, "response": CLAUDE},
    "anthropic batch": {"params": {"messages": [ASK]}, "result": {"type": "succeeded", "message": CLAUDE}},
    "gemini": {
        "contents": [{"role": "user", "parts": [{"text": Q}]}],
        "candidates": [
            {
                "content": {"role": "model", "parts": [{"text": T, "thought": True}, {"text": A}]},
                "finishReason": "STOP",
            }
        ],
    },
    "ollama": {
        "messages": [ASK],
        "message": {"role": "assistant", "content": A, "thinking": T},
        "done_reason": "stop",
    },
    "ollama generate": {"prompt": Q, "response": A, "thinking": T, "done_reason": "stop"},
    "message": {"prompt": Q, "response": SAY},
    "messages": {"prompt": Q, "response": [SAY]},
    "object": {"instruction": Q, "output": {"reasoning": T, "answer": A}},
    "object in a message": {"messages": [ASK, {"role": "assistant", "content": {"thinking": T, "response": A}}]},
    "langchain": {
        "messages": [
            {"type": "human", "content": Q},
            {"type": "ai", "content": A, "additional_kwargs": {"reasoning_content": T}},
        ]
    },
    "litellm": {"messages": [ASK, {"content": A, "role": "assistant", "provider_specific_fields": {"reasoning": T}}]},
    "generations of a prompt": {"prompt": Q, "responses": [f"<think>{T}</think>{A}"], "finish_reasons": ["stop"]},
    "vllm": {"prompt": Q, "outputs": [{"text": f"<think>{T}</think>{A}", "finish_reason": "stop"}]},
}


@pytest.mark.parametrize("dump", DUMPS)
def test_answers_as_they_came(tmp_path, dump):
    trace = one(tmp_path, DUMPS[dump])
    assert (trace.context, trace.thought, trace.answer, trace.truncated) == (Q, T, A, False)


def test_an_answer_without_its_question_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"one.jsonl#1 .*no assistant turn after a question"):
        one(tmp_path, {"custom_id": "1", "response": {"status_code": 200, "body": CHAT}})


CUT = {
    "row": {"question": Q, "cot": T, "answer": A, "finish_reason": "length"},
    "upper case": {"question": Q, "cot": T, "answer": A, "finishReason": "MAX_TOKENS"},
    "stop_reason": {"instruction": Q, "output": f"<think>{T}</think>{A}", "stop_reason": "max_tokens"},
    "flag": {"question": Q, "cot": T, "answer": A, "truncated": True},
    "incomplete": {"question": Q, "cot": T, "answer": A, "is_reasoning_complete": [False]},
    "message": {"messages": [ASK, {**SAY, "finish_reason": "length"}]},
    "beside messages": {"messages": [ASK, SAY], "finish_reasons": ["length"]},
    "api": {"prompt": Q, "choices": [{"message": SAY, "finish_reason": "length"}]},
    "ollama": {"prompt": Q, "response": A, "thinking": T, "done_reason": "length"},
    "responses": {"input": Q, "output": DUMPS["responses"]["output"], "status": "incomplete"},
    "the only generation": {"problem": Q, "generations": [f"<think>{T}</think>{A}"], "finish_reasons": ["length"]},
    "incomplete generation": {
        "problem": Q,
        "generations": [f"<think>{T}</think>{A}"],
        "is_reasoning_complete": [False],
    },
    "csv flag": {"question": Q, "cot": T, "answer": A, "is_reasoning_complete": "False"},
    "csv": {"question": Q, "cot": T, "answer": A, "finish_reasons": "['length']"},
}


@pytest.mark.parametrize("case", CUT)
def test_a_source_that_says_so(tmp_path, case):
    trace = one(tmp_path, CUT[case])
    assert (trace.thought, trace.answer, trace.truncated) == (T, A, True)


def test_what_is_whole_is_chosen(tmp_path):
    cut, whole = {"message": {**SAY, "content": "cut"}, "finish_reason": "length"}, CHAT["choices"][0]
    assert one(tmp_path, {"prompt": Q, "choices": [cut, whole]}).answer == A
    row = {"problem": Q, "generations": [f"<think>x</think>{A}", f"<think>{T}</think>{A}"]}
    trace = one(tmp_path, {**row, "finish_reasons": ["length", "stop"]})
    assert (trace.thought, trace.truncated) == (T, False)
    for reasons in (None, ["stop", "stop"], ["eos", "eos"]):
        assert not one(tmp_path, {**row, "finish_reasons": reasons}).truncated
