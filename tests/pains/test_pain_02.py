"""Pain 2, huggingface/trl#6361, modelscope/ms-swift#4810, #5793: `<think>` of several turns is stripped or doubled."""

import pytest
from plain_trl import messages, sft_trainer, template
from trace_files import write_jsonl

from hf_reason.data.read.sources import read_traces
from hf_reason.data.record import make_record
from hf_reason.text import render

DIALOGUE = [
    {"role": "user", "content": "3加4等于几？"},
    {"role": "assistant", "content": "<think>\n第一次想：3+4=7\n</think>\n\n7"},
    {"role": "user", "content": "再加2呢？"},
    {"role": "assistant", "content": "<think>\n第二次想：7+2=9\n</think>\n\n9"},
]


def test_plain_trl_strips_the_thoughts_of_a_dialogue(tmp_path, tiny_model, tokenizer):
    tokenizer.chat_template = template("qwen3")
    trainer = sft_trainer(tmp_path, tiny_model, tokenizer, [{"messages": DIALOGUE}])
    text = tokenizer.decode(trainer.train_dataset[0]["input_ids"])
    assert "第一次想" not in text and "第二次想" in text


def test_plain_prompts_double_the_tag(tmp_path, tokenizer, records):
    tokenizer.chat_template = template("deepseek_r1_distill")
    user, assistant = messages(records[0])
    prompt = tokenizer.apply_chat_template([user], add_generation_prompt=True, tokenize=False)
    assert (prompt + assistant["content"]).count("<think>") == 2
    here = render(records[0], tokenizer)
    assert (here["prompt"] + here["completion"]).count("<think>") == 1


@pytest.mark.parametrize(
    ("history", "contexts", "thoughts"),
    [
        ("drop", ["用户：3加4等于几？\n\n助手：7\n\n用户：再加2呢？"], ["第二次想：7+2=9"]),
        (
            "keep",
            ["用户：3加4等于几？\n\n助手的思考：第一次想：3+4=7\n\n助手：7\n\n用户：再加2呢？"],
            ["第二次想：7+2=9"],
        ),
        (
            "split",
            ["3加4等于几？", "用户：3加4等于几？\n\n助手：7\n\n用户：再加2呢？"],
            ["第一次想：3+4=7", "第二次想：7+2=9"],
        ),
    ],
)
@pytest.mark.parametrize("name", ["qwen3", "deepseek_r1_distill", "qwen3_5_think", "glm4moe"])
def test_the_policy_says_where_thoughts_go_and_none_is_doubled(tmp_path, tokenizer, name, history, contexts, thoughts):
    tokenizer.chat_template = template(name)
    write_jsonl(tmp_path / "d.jsonl", [{"messages": DIALOGUE}])
    traces = list(read_traces(tmp_path / "d.jsonl", history=history))
    assert [trace.context for trace in traces] == contexts and [trace.thought for trace in traces] == thoughts
    for trace in traces:
        text = render(make_record(trace.context, [trace.thought], trace.answer), tokenizer)
        whole = text["prompt"] + text["completion"]
        assert whole.count("<think>") == whole.count("</think>") == 1
