"""Long chains in pieces: every target once, no step cut, the overlap as asked for."""

import copy

import pytest
from chat_templates import R1_PREFILL_TEMPLATE, R1_TEMPLATE
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_reason.data.record import make_record
from hf_reason.text import build_prompt, encode, encode_prompt, split_record
from hf_reason.text.long_chains import StepTooLong

_TEXT = st.text(min_size=1, max_size=20)


def _targets(example: dict, column: str = "input_ids") -> list[int]:
    return [value for value, label in zip(example[column], example["labels"], strict=True) if label != -100]


def _steps(example: dict, target: bool) -> list[int]:
    """The numbers of the steps that are (not) targets, each once."""
    pairs = zip(example["step_ids"], example["labels"], strict=True)
    return sorted({number for number, label in pairs if number and (label != -100) == target})


@pytest.mark.parametrize("template", [None, R1_TEMPLATE, R1_PREFILL_TEMPLATE])
def test_pieces_part_the_targets_between_steps(_session_tokenizer, template):
    tokenizer = copy.deepcopy(_session_tokenizer)
    tokenizer.chat_template = template

    @settings(max_examples=120, deadline=None)
    @given(
        context=_TEXT,
        steps=st.lists(_TEXT, min_size=1, max_size=7),
        answer=_TEXT,
        overlap=st.integers(0, 3),
        room=st.integers(0, 120),
    )
    def check(context, steps, answer, overlap, room):
        record = make_record(context, steps, answer)
        whole = encode(record, tokenizer)
        prompt = encode_prompt(record, tokenizer)
        limit = len(prompt) + 40 + room
        try:
            pieces = split_record(record, tokenizer, limit, overlap)
        except StepTooLong:
            # then some step, or the last one with the answer, is really too long with what must stand before it
            counts = [whole["step_ids"].count(number) for number in range(1, len(record["steps"]) + 2)]
            units = [*counts[:-2], counts[-2] + counts[-1]]
            opening = 12  # more than "<think>\n" takes
            needs = [len(prompt) + opening + sum(units[max(i - overlap, 0) : i + 1]) for i in range(len(units))]
            assert max(needs) > limit
            return
        for column in ("input_ids", "segment_ids", "step_ids"):
            assert sum((_targets(piece, column) for piece in pieces), []) == _targets(whole, column)
        seen = 0
        for piece in pieces:
            assert len({len(values) for values in piece.values()}) == 1
            assert len(piece["input_ids"]) <= limit
            assert piece["input_ids"][: len(prompt)] == prompt
            own, known = _steps(piece, True), _steps(piece, False)
            assert own == list(range(seen + 1, own[-1] + 1))
            assert known == list(range(max(seen - overlap, 0) + 1, seen + 1))
            for number in own + known:  # each whole
                assert piece["step_ids"].count(number) == whole["step_ids"].count(number)
            seen = own[-1]
            assert (2 in piece["segment_ids"]) == (piece is pieces[-1])
        assert seen == len(record["steps"]) + 1

    check()


def test_a_piece_reads_as_the_text_with_its_own_numbers(tokenizer, records):
    record = max(records, key=lambda record: len(record["steps"]))
    whole = encode(record, tokenizer)
    pieces = split_record(record, tokenizer, int(len(whole["input_ids"]) * 0.7), overlap_steps=1)
    prompt = build_prompt(record, tokenizer)
    texts = [tokenizer.decode(piece["input_ids"]) for piece in pieces]
    assert len(pieces) > 1
    assert all(text.startswith(f"{prompt}<think>\n步骤") for text in texts)
    assert [("</think>" in text, text.endswith("<|end|>")) for text in texts] == [
        *[(False, False)] * (len(pieces) - 1),
        (True, True),
    ]
    second = pieces[1]
    first_own = _steps(second, True)[0]
    assert f"<think>\n步骤{first_own - 1}:{record['steps'][first_own - 2]}\n步骤{first_own}:" in texts[1]
    assert tokenizer.decode(_targets(second)).startswith(f"步骤{first_own}:")


def test_no_overlap_and_what_fits(tokenizer, records):
    record = records[-1]
    whole = encode(record, tokenizer)
    assert split_record(record, tokenizer, len(whole["input_ids"])) == [whole]
    pieces = split_record(record, tokenizer, int(len(whole["input_ids"]) * 0.75), overlap_steps=0)
    assert [_steps(piece, False) for piece in pieces] == [[]] * len(pieces)


def test_what_cannot_be_split_is_said(tokenizer, records):
    prompt = len(encode_prompt(records[0], tokenizer))
    with pytest.raises(StepTooLong, match=r"Step 1 has \d+ tokens and does not fit into"):
        split_record(records[0], tokenizer, prompt + 3)
    with pytest.raises(StepTooLong, match="no steps to cut between"):
        split_record({**records[0], "steps": []}, tokenizer, prompt)
    with pytest.raises(ValueError, match="overlap_steps is -1"):
        split_record(records[0], tokenizer, 100, overlap_steps=-1)
