"""Rendering and parsing: the round trip, chat templates, hybrid mode (pains 1, 2, 3)."""

import pytest
from chat_templates import HYBRID_TEMPLATE, R1_PREFILL_TEMPLATE, R1_TEMPLATE
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_reason.data.record import make_record
from hf_reason.text import build_prompt, parse, render, template_hash
from hf_reason.text.render import opened_by_prompt, step_starts

# Texts made of the pieces that could confuse a parser, mixed with arbitrary characters.
_PIECES = st.sampled_from(
    [
        "步骤1:",
        "步骤2: ",
        "\n步骤2:",
        "\n步骤3: x",
        "<think>",
        "</think>",
        "<\\/think>",
        "\\",
        "\n\n",
        " ",
        "答",
        "3+4=7",
        "```\n",
        "`",
        "“",
        " </think> ",
    ]
)
_TEXT = st.lists(st.one_of(_PIECES, st.text(max_size=8)), min_size=1, max_size=6).map("".join)


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(_TEXT, max_size=5), answer=_TEXT)
def test_parse_inverts_render(steps, answer):
    record = make_record("问题", steps, answer)
    text = render(record)
    parsed = parse(opened_by_prompt(text["prompt"]) + text["completion"])
    assert parsed.steps == record["steps"]
    assert parsed.answer == record["answer"]
    assert parsed.closed


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(_TEXT, min_size=1, max_size=5), answer=_TEXT)
def test_prefilled_thought_parses_without_its_opening_tag(steps, answer):
    record = make_record("问题", steps, answer)
    if not record["steps"]:
        return
    completion = render(record)["completion"].removeprefix("<think>\n")
    assert parse(completion).steps == record["steps"]


def test_completion_is_the_documented_text():
    record = make_record("题", ["一", "二"], "三", task="求和")
    assert render(record) == {
        "prompt": "问题:题\n推理要求:求和\n回答:",
        "completion": "<think>\n步骤1:一\n步骤2:二\n</think>\n\n三",
    }


@pytest.mark.parametrize(
    ("text", "steps", "answer", "closed"),
    [
        ("<think>\n步骤1: a\n步骤2: b", ["a", "b"], "", False),
        ("<think>\n想一想\n</think>\n\n答", ["想一想"], "答", True),
        ("步骤1:a\n</think>\n\n答", ["a"], "答", True),
        ("先看题\n步骤1:a\n步骤2:b\n</think>答", ["先看题", "a", "b"], "答", True),
        ("<think>\n步骤1:a\n步骤3:b\n</think>答", ["a\n步骤3:b"], "答", True),
        ("只有答案", [], "只有答案", True),
        ("<think>\n\n</think>\n\n答", [], "答", True),
        ("", [], "", True),
        (
            "<think>\n步骤1:写循环\n</think>\n\n    for i in x:\n        f(i)\n",
            ["写循环"],
            "    for i in x:\n        f(i)",
            True,
        ),
        ("<think>\n步骤1:a\n</think> \n\n 答", ["a"], "答", True),
    ],
)
def test_parse_by_hand(text, steps, answer, closed):
    parsed = parse(text)
    assert (parsed.steps, parsed.answer, parsed.closed) == (steps, answer, closed)


@pytest.mark.parametrize(
    "text", ["写在 <think> 和 </think> 之间", "`</think>` 结束推理", "It writes </think> at the end."]
)
def test_a_completion_that_mentions_tags(text):
    parsed = parse(f"<think>\n步骤1:先看题。{text}\n步骤2:好\n</think>\n\n{text}")
    assert (parsed.steps, parsed.answer, parsed.closed) == ([f"先看题。{text}", "好"], text, True)
    assert (parse(text).steps, parse(text).answer, parse(text).closed) == ([], text, True)
    assert step_starts(text) == [(0, 1)]
    assert parse(f"<think>\n想一想\n</think>\n\n{text}").answer == text
    assert parse(f"想一想\n</think>\n\n{text}").steps == ["想一想"]


def test_a_closing_tag_written_twice_counts_as_one():
    assert parse("<think>\n想\n</think>\n</think>\n\n答") == parse("<think>\n想\n</think>\n\n答")


@pytest.mark.parametrize("template", [None, R1_TEMPLATE, R1_PREFILL_TEMPLATE, HYBRID_TEMPLATE])
def test_no_template_drops_or_doubles_the_thought(tokenizer, records, template):
    """Pain 1: DeepSeek's template deletes thoughts. Pain 2: a template that opens the thought doubles the tag."""
    tokenizer.chat_template = template
    text = render(records[0], tokenizer)
    whole = text["prompt"] + text["completion"]
    assert whole.count("<think>") == whole.count("</think>") == 1
    assert parse(text["completion"]).steps == records[0]["steps"]


def test_hybrid_template_keeps_the_injected_thought_out_of_the_completion(tokenizer):
    """Pain 3: a loss on the empty thought that the template wrote teaches the model never to think."""
    record = make_record("题", [], "三")
    tokenizer.chat_template = HYBRID_TEMPLATE
    text = render(record, tokenizer)
    assert text["prompt"].endswith("<think>\n\n</think>\n\n")
    assert text["completion"] == "三"
    tokenizer.chat_template = R1_TEMPLATE
    assert render(record, tokenizer)["completion"] == "<think>\n\n</think>\n\n三"
    tokenizer.chat_template = R1_PREFILL_TEMPLATE
    text = render(record, tokenizer)
    assert (text["prompt"] + text["completion"]).count("<think>\n\n</think>\n\n三") == 1


def test_template_that_closes_the_thought_is_refused_for_a_record_with_steps(tokenizer, records):
    tokenizer.chat_template = R1_TEMPLATE.replace("%}<|assistant|>{% endif %}", "%}<think>\n\n</think>\n\n{% endif %}")
    with pytest.raises(ValueError, match="closes the thought"):
        render(records[0], tokenizer)


def test_instruction_of_the_domain_comes_first(records):
    prompt = build_prompt(records[0], instructions={"math": "作为数学老师,"})
    assert prompt.startswith("问题:作为数学老师,")
    assert build_prompt(records[0], instructions={"legal": "x"}) == build_prompt(records[0])


def test_template_hash_follows_what_shapes_the_prompt(tokenizer):
    before = template_hash(tokenizer)
    assert before == template_hash(tokenizer) != template_hash(tokenizer, {"math": "x"})
    tokenizer.chat_template = R1_TEMPLATE.replace("<|user|>", "<|user|>\n")
    assert template_hash(tokenizer) != before


def test_fields_that_are_missing(tokenizer):
    assert render({"context": "题", "answer": "三"}) == render(make_record("题", [], "三"))
    with pytest.raises(ValueError, match="field 'context'; its fields are question"):
        render({"question": "题", "answer": "三", "steps": []}, tokenizer)
