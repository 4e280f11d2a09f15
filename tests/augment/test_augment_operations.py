"""What holds of every operation: the answer, the figures, seeds, provenance, and the order of the records."""

import json
import random
import re

import pytest
from datasets import Dataset, load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_reason.augment import Distractors, StepPairs, augment
from hf_reason.augment.operation import chosen_ids, seed_of
from hf_reason.augment.step_pairs import wrong_step
from hf_reason.data import DataError
from hf_reason.data.record import DOMAINS, RECORD_FIELDS, make_record
from hf_reason.data.synthetic.distractors import _read_templates, distract
from hf_reason.data.synthetic.word_problems import word_problem
from hf_reason.rewards.step_judge import FALSE, FOREIGN, HOLDS, judge_steps

FAST = settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def any_record(draw):
    """A word problem, or a text of any characters with figures in it."""
    if draw(st.booleans()):
        row = word_problem(draw(st.integers(2, 6)), random.Random(draw(st.integers(0, 10**6))))
        return make_record(row["context"], row["steps"], row["answer"], domain=draw(st.sampled_from(DOMAINS)))
    words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=30)
    context = (
        draw(words) + draw(st.sampled_from(["有12个苹果。", " has 12 apples. ", "12", "。", "$x=3$. "])) + draw(words)
    )
    return make_record(context, [draw(words)], draw(words), domain=draw(st.sampled_from(DOMAINS)))


@FAST
@given(any_record(), st.integers(0, 2**31 - 1), st.sampled_from(["train", "test"]))
def test_a_distractor_leaves_the_answer_and_every_figure(record, seed, templates):
    found = distract(record, seed, templates=templates, kinds=("irrelevant", "wrong"))
    copy = found.record
    assert all(copy[name] == record[name] for name in RECORD_FIELDS if name not in ("context", "id"))
    start = copy["context"].index(found.sentence)
    rest = [copy["context"][:start], copy["context"][start + len(found.sentence) :]]
    assert record["context"] in ("".join(rest), rest[0] + rest[1][1:])
    known = set(re.findall(r"\d+", str([record[name] for name in ("context", "task", "steps", "answer")])))
    new = [number for number in re.findall(r"\d+", found.sentence, re.ASCII) if number not in known]
    assert len(new) == 1
    assert distract(record, seed, templates=templates, kinds=("irrelevant", "wrong")) == found


def test_training_never_uses_a_sentence_of_the_test():
    found = {
        name: {row.says for domain in sets.values() for rows in domain.values() for row in rows}
        for name, sets in _read_templates().items()
    }
    assert not found["train"] & found["test"]
    # nor one that only differs in a few words
    about = {
        name: {word for domain in sets.values() for rows in domain.values() for row in rows for word in row.about[:1]}
        for name, sets in _read_templates().items()
    }
    assert not about["train"] & about["test"]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_sentences_suit_the_domain_and_are_about_something_else(language):
    text = {"zh": "甲公司收入20亿元。净利润是多少？", "en": "The firm earned 20 dollars. What is its profit?"}[
        language
    ]
    record = make_record(text, ["x"], "3", domain="finance")
    said = {distract(record, seed, templates="train").sentence for seed in range(60)}
    own = _read_templates()["train"]["finance"][language]
    patterns = [re.escape(row.says).replace(r"\{n\}", r"\d+") for row in own]
    from_domain = [sentence for sentence in said if any(re.fullmatch(pattern, sentence) for pattern in patterns)]
    assert 0.2 < len(from_domain) / len(said) < 0.8
    for row in own[:2]:
        known = make_record(f"{row.about[0]}。{text}", ["x"], "3", domain="finance")
        pattern = re.escape(row.says).replace(r"\{n\}", r"\d+")
        assert not any(re.fullmatch(pattern, distract(known, seed, templates="train").sentence) for seed in range(40))


def test_a_wrong_figure_says_that_it_is_wrong_and_what_is_right():
    record = make_record("小明有37个苹果。现在有多少个？", ["x"], "37个")
    for seed in range(20):
        found = distract(record, seed, templates="train", kinds=("wrong",))
        assert found.kind == "wrong" and "37" in found.sentence
        assert re.search("误|错", found.sentence)
    nothing = distract(make_record("求x的值。", ["x"], "y"), 0, templates="train", kinds=("wrong",))
    assert nothing.kind == "irrelevant"


@FAST
@given(st.integers(0, 10**6), st.integers(2, 6), st.sampled_from(["result", "number"]))
def test_a_wrong_step_is_wrong_and_only_that_step_changes(seed, operations, kind):
    row = word_problem(operations, random.Random(seed))
    verdicts = judge_steps(row["steps"], row["context"])
    for place, verdict in enumerate(verdicts):
        if verdict != HOLDS:
            continue
        steps = row["steps"][: place + 1]
        found = wrong_step(steps, row["context"], kind, random.Random(seed))
        if found is None:
            continue
        assert found[0] != steps[-1] and found[1] == kind
        assert judge_steps([*steps[:-1], found[0]], row["context"])[-1] == (FALSE if kind == "result" else FOREIGN)
        # the words stay
        assert re.sub(r"\d+", "", found[0]) == re.sub(r"\d+", "", steps[-1])


def test_pairs_have_the_format_of_trl_and_say_where_they_come_from(records):
    operation = StepPairs(1.0, pairs=2)
    kinds = set()
    for record in records:
        made = operation.apply(record, 5)
        assert not isinstance(made, str) and 1 <= len(made) <= 2
        for row in (item.row for item in made):
            kinds.add(row["mistake"])
            (chosen,), (rejected,) = row["chosen"], row["rejected"]
            assert chosen["content"].endswith(row["right"]) and rejected["content"].endswith(row["wrong"])
            assert chosen["content"][: -len(row["right"])] == rejected["content"][: -len(row["wrong"])]
            assert (
                row["previous"] == record["steps"][: row["step"] - 1]
                and row["right"] == record["steps"][row["step"] - 1]
            )
    assert kinds == {"result", "number"}
    assert operation.apply(make_record("甲。", ["没有算式"], "乙"), 0) == "no step that is known to be right"
    assert operation.apply(make_record("甲有3个,乙有4个。", ["3+4=8", "8+4=12"], "12"), 0) == (
        "no step that is known to be right"
    )


@FAST
@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=40, unique=True), st.data())
def test_fractions_are_exact_nested_and_do_not_depend_on_the_order(ids, data):
    fraction = data.draw(st.floats(0.01, 1))
    found = chosen_ids(ids, "x", fraction, 3)
    assert len(found) == max(1, round(fraction * len(ids)))
    assert found == chosen_ids(data.draw(st.permutations(ids)), "x", fraction, 3)
    assert found <= chosen_ids(ids, "x", data.draw(st.floats(fraction, 1)), 3)
    assert seed_of(3, "x", ids[0]) == seed_of(3, "x", ids[0]) < 2**31


def _splits(records):
    return {"train": Dataset.from_list(records[:40]), "test": Dataset.from_list(records[40:])}


def test_order_ids_provenance_and_the_other_splits_stay(tmp_path, records):
    splits = _splits(records)
    report = augment(splits, [Distractors(0.5), StepPairs(0.25)], tmp_path / "a", seed=1)
    data = load_from_disk(str(tmp_path / "a"))
    assert report["splits"] == {"train": 60, "test": 20} == {name: len(rows) for name, rows in data.items()}
    first = [row for row in data["train"] if not row["provenance"]]
    assert [{name: row[name] for name in RECORD_FIELDS} for row in first] == records[:40]
    assert data["test"].select_columns(list(RECORD_FIELDS)).to_list() == records[40:]
    before = None
    for row in data["train"]:
        if row["provenance"]:
            (entry,) = row["provenance"]
            assert entry["operation"] == "distractors" and entry["of"] == before["id"] != row["id"]
            assert entry["detail"].split(": ")[1] in row["context"]
            assert Distractors(1.0).apply(before, entry["seed"])[0].row["context"] == row["context"]
        else:
            before = row
    pairs = [json.loads(line) for line in (tmp_path / "a" / "step_pairs.jsonl").read_text("utf-8").splitlines()]
    assert len({row["provenance"][0]["of"] for row in pairs}) == 10 and len({row["id"] for row in pairs}) == len(pairs)

    again = augment(splits, [Distractors(0.5), StepPairs(0.25)], tmp_path / "b", seed=1)
    assert again["counts"] == report["counts"]
    assert load_from_disk(str(tmp_path / "b"))["train"].to_list() == data["train"].to_list()
    augment(splits, [Distractors(0.5)], tmp_path / "c", seed=2)
    assert load_from_disk(str(tmp_path / "c"))["train"]["id"] != data["train"]["id"]


def test_replace_and_a_second_operation_on_top(tmp_path, records):
    augment(_splits(records), [Distractors(0.5)], tmp_path / "a", replace=True)
    data = load_from_disk(str(tmp_path / "a"))
    assert len(data["train"]) == 40 and sum(map(bool, data["train"]["provenance"])) == 20
    assert [row["answer"] for row in data["train"]] == [record["answer"] for record in records[:40]]
    augment(data, [Distractors(1.0, templates="test", kinds=["irrelevant"])], tmp_path / "b", replace=True)
    chains = load_from_disk(str(tmp_path / "b"))["train"]["provenance"]
    assert sorted(map(len, chains)) == [1] * 20 + [2] * 20


def test_a_folder_of_something_else_is_left_alone(tmp_path, records):
    splits = _splits(records)
    splits["train"].save_to_disk(str(tmp_path / "a" / "train"))
    with pytest.raises(DataError, match="already holds train"):
        augment(splits, [Distractors(0.5)], tmp_path / "a")
    augment(splits, [Distractors(0.5)], tmp_path / "b")
    with pytest.raises(DataError, match="other settings or records .operations."):
        augment(splits, [Distractors(0.6)], tmp_path / "b")
    assert augment(splits, [Distractors(0.6)], tmp_path / "b", overwrite=True)["splits"]["train"] == 64
    (tmp_path / "b" / "dataset_dict.json").unlink()  # killed while it put the parts in their places
    (tmp_path / "b" / "test" / "state.json").unlink()
    assert augment(splits, [Distractors(0.6)], tmp_path / "b")["splits"] == {"train": 64, "test": 20}
    assert len(load_from_disk(str(tmp_path / "b"))["test"]) == 20
    with pytest.raises(DataError, match="no training records"):
        augment({"test": splits["test"]}, [Distractors(0.6)], tmp_path / "c")
