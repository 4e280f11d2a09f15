"""The distractor: irrelevant, plausible, at a sentence boundary, and never a change of the problem."""

import re

import pytest

from hf_reason.data.record import make_record
from hf_reason.data.synthetic.distractors import insert_distractor, sentence_starts

ZH = make_record("小明有3个苹果。他又买来4个苹果。小明现在有多少个苹果？", ["3+4=7个"], "7个", task="写出步骤")
EN = make_record("Mr. Lee has 3.5 kg of rice. He buys 2 kg more. How much rice has he?", ["3.5+2=5.5"], "5.5 kg")


def added(record, noisy):
    """The inserted sentence and its place, which must be a sentence start of the old context."""
    old, new = record["context"], noisy["context"]
    for place in sentence_starts(old):
        stop = place + len(new) - len(old)
        if new[:place] + new[stop:] == old:
            return new[place:stop], place
    raise AssertionError(f"{new!r} is not {old!r} with one insertion at a sentence start")


@pytest.mark.parametrize("record", [ZH, EN])
@pytest.mark.parametrize("seed", range(12))
def test_only_the_context_changes_and_only_by_one_sentence_with_a_new_number(record, seed):
    noisy = insert_distractor(record, seed)
    assert {key: noisy[key] for key in noisy if key not in ("context", "id")} == {
        key: record[key] for key in record if key not in ("context", "id")
    }
    sentence, _ = added(record, noisy)
    numbers = re.findall(r"\d+", sentence)
    known = re.findall(r"\d+", str({**record, "id": ""}))
    assert len(numbers) == 1 and numbers[0] not in known
    assert noisy["id"] != record["id"]
    # The question stays the last sentence.
    assert noisy["context"].endswith(record["context"][sentence_starts(record["context"])[-1] :])


def test_language_follows_the_context():
    assert re.search("[\u4e00-\u9fff]", added(ZH, insert_distractor(ZH, 1))[0])
    assert re.fullmatch(r"[ -~]+", added(EN, insert_distractor(EN, 1))[0])
    formula = {"context": "3+4=?", "language": "en"}
    assert re.fullmatch(r"[ -~]+", insert_distractor(formula, 1)["context"])


def test_the_same_seed_gives_the_same_copy_and_other_seeds_other_ones():
    assert insert_distractor(ZH, 5) == insert_distractor(ZH, 5)
    assert len({insert_distractor(ZH, seed)["context"] for seed in range(20)}) > 10
    assert "id" in ZH and ZH["context"].count("。") == 2  # the record itself was not touched


def test_a_topic_of_the_record_is_passed_over():
    record = {"context": "公园里有鸽子，气温很高。有多少只鸽子？"}
    for seed in range(40):
        assert not re.search("鸽子|气温|公园", added(record, insert_distractor(record, seed))[0])


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("甲有3.5个。乙有2个！问几个？", ["甲有3.5个。", "乙有2个！", "问几个？"]),
        ("他说：“我有2个。”她有3个。", ["他说：“我有2个。”", "她有3个。"]),
        ("甲（乙说。丙说。）丁。戊", ["甲（乙说。丙说。）丁。", "戊"]),
        ("真的！？是的。", ["真的！？", "是的。"]),
        ("仓库有2.5吨.又运来3吨.", ["仓库有2.5吨.", "又运来3吨."]),
        ("仓库有2．5吨．又运来3吨．", ["仓库有2．5吨．", "又运来3吨．"]),
        ("Dr. Wu, i.e. John F. Wu, has 2.5. He left.", ["Dr. Wu, i.e. John F. Wu, has 2.5. ", "He left."]),
        ("Take $x. y$ and add. Then stop.", ["Take $x. y$ and add. ", "Then stop."]),
        ("看代码。\n```\na. b. c\n```\n说。完", ["看代码。\n```\na. b. c\n```\n说。", "完"]),
        ("标题\n\n正文在此\n折行", ["标题\n\n", "正文在此\n折行"]),
    ],
)
def test_sentence_boundaries(text, sentences):
    starts = sentence_starts(text)
    assert [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)] == sentences


def test_nothing_is_put_behind_the_question_or_between_choices():
    record = {"context": "甲有2本书。他有几本书？\nA. 1本。\nB. 2本。\nC. 3本。"}
    for seed in range(30):
        assert insert_distractor(record, seed)["context"].endswith("他有几本书？\nA. 1本。\nB. 2本。\nC. 3本。")
    asked_first = {"context": "求x的值。已知x加2等于5。"}
    assert all(added(asked_first, insert_distractor(asked_first, seed))[1] == 0 for seed in range(10))


def test_an_empty_context_and_missing_fields_do_not_crash():
    assert insert_distractor({"context": ""}, 0)["context"].strip()
