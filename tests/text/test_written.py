"""Completions read from their token ids: the steps, and which token belongs to which."""

import pytest
from chat_templates import R1_PREFILL_TEMPLATE

from hf_reason.text import encode, render
from hf_reason.text.render import numbered_steps, step_starts
from hf_reason.text.spans import completion_spans, decoded
from hf_reason.text.written import read_chain


def _ids(tokenizer, text, end=True):
    return tokenizer(text, add_special_tokens=False)["input_ids"] + ([tokenizer.eos_token_id] if end else [])


def _of_step(tokenizer, ids, step_ids, number):
    return decoded([token for token, step in zip(ids, step_ids, strict=True) if step == number], tokenizer)


def test_spans_of_a_rendered_completion_are_those_of_encode(tokenizer, records):
    for record in records:
        encoded = encode(record, tokenizer)
        begin = encoded["step_ids"].index(1)
        ids = encoded["input_ids"][begin:]
        spans = completion_spans(ids, tokenizer)
        assert spans["step_ids"] == encoded["step_ids"][begin:]
        assert spans["segment_ids"] == encoded["segment_ids"][begin:]
        chain = read_chain(ids, tokenizer, ends=[tokenizer.eos_token_id])
        assert chain.step_ids == encoded["step_ids"][begin:]
        assert (chain.steps, chain.answer, chain.closed) == (record["steps"], record["answer"], True)


def test_bisection_finds_what_a_walk_over_all_prefixes_finds(tokenizer):
    text = "<think>\n步骤1:一共有 3+4=7 个苹果🍎\n步骤2:🍎🍎 7-2=5\n步骤3:\n</think>\n\n5个🍎"
    ids = _ids(tokenizer, text)
    starts = step_starts(text + "<|end|>")
    lengths = [len(decoded(ids[:end], tokenizer)) for end in range(len(ids))]
    walk = [max(number for start, number in starts if start <= length) for length in lengths]
    assert completion_spans(ids, tokenizer)["step_ids"] == walk


@pytest.mark.parametrize(
    ("text", "steps", "answer", "closed", "has_thought"),
    [
        ("<think>\n步骤1:a\n步骤2:b\n</think>\n\nx", ["a", "b"], "x", True, True),
        ("步骤1:a\n步骤2:b\n</think>\n\nx", ["a", "b"], "x", True, True),
        ("<think>\n步骤1:a\n步骤2:b", ["a", "b"], "", False, True),
        ("<think>\n步骤1:\n步骤2:b\n</think>x", ["", "b"], "x", True, True),
        ("<think>so\n步骤1:a\n</think>x", ["so\na"], "x", True, True),
        ("<think>\n步骤1:First this. Then 3+4=7.\n\nSo 7-2=5.\n</think>x", None, "x", True, True),
        ("<think>\n\n</think>\n\nx", [], "x", True, True),
        ("x", [], "x", True, False),
        ("", [], "", True, False),
    ],
)
def test_what_a_model_may_write(tokenizer, text, steps, answer, closed, has_thought):
    ids = _ids(tokenizer, text)
    chain = read_chain(ids, tokenizer, ends=[tokenizer.eos_token_id])
    if steps is None:  # a label makes one step of it, whatever it says
        assert len(chain.steps) == 1 and chain.steps[0].startswith("First this")
    else:
        assert chain.steps == steps
    assert (chain.answer, chain.closed, chain.has_thought) == (answer, closed, has_thought)
    assert len(chain.step_ids) == len(ids)
    assert set(chain.step_ids) <= set(range(1, len(chain.steps) + 2))
    assert chain.step_ids == sorted(chain.step_ids)
    if closed:  # the end-of-turn token belongs to the answer
        assert chain.step_ids[-1] == len(chain.steps) + 1


def test_a_thought_of_prose_is_cut_as_the_data_are(tokenizer):
    text = (
        "<think>\nFirst, 3+4=7 apples are there.\n\nSo after lunch 7-2=5 remain.\n\nWait, check: 5+2=7.\n</think>\n\n5"
    )
    ids = _ids(tokenizer, text)
    chain = read_chain(ids, tokenizer, ends=[tokenizer.eos_token_id])
    assert [step.split(",")[0].split(" ")[0] for step in chain.steps] == ["First", "So", "Wait"]
    for number, step in enumerate(chain.steps, start=1):
        assert step in _of_step(tokenizer, ids, chain.step_ids, number)
    assert _of_step(tokenizer, ids, chain.step_ids, 4) == "5<|end|>"


def test_a_thought_that_the_prompt_has_opened(tokenizer, records):
    """Cut before its end it would look like an answer if the prompt were not read."""
    tokenizer.chat_template = R1_PREFILL_TEMPLATE
    text = render(records[0], tokenizer)
    assert text["prompt"].rstrip().endswith("<think>")
    prose = _ids(tokenizer, "Wait, what is 3+4? It is", end=False)
    assert not read_chain(prose, tokenizer).has_thought
    cut = read_chain(prose, tokenizer, text["prompt"])
    assert cut.has_thought and not cut.closed and set(cut.step_ids) == set(range(1, len(cut.steps) + 1))
    ids = _ids(tokenizer, text["completion"])
    chain = read_chain(ids, tokenizer, text["prompt"], [tokenizer.eos_token_id])
    assert chain.steps == records[0]["steps"]
    for number, step in enumerate(chain.steps, start=1):
        assert step in _of_step(tokenizer, ids, chain.step_ids, number)


def test_numbered_steps_keep_escaped_labels(tokenizer):
    record = {"context": "x", "steps": ["步骤2:看 </think>", "b"], "answer": "y"}
    assert numbered_steps(render(record, tokenizer)["completion"]) == record["steps"]
