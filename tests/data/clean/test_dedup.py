"""Duplicates are found, and problems with other numbers are kept."""

import random

import pytest

from hf_reason.data.clean import dedup
from hf_reason.data.clean.dedup import Deduplicator
from hf_reason.data.clean.text_keys import normalise, numbers_of

CONTEXT = "学校图书馆上午借出故事书36本，下午借出的本数比上午的2倍少12本，这一天一共借出故事书多少本？"
STEPS = [
    "先求下午借出的本数，上午的2倍是36×2=72（本）。",
    "比它少12本，就是72-12=60（本）。",
    "一共借出36+60=96（本）。",
]


def random_text(rng: random.Random, length: int) -> str:
    # A stretch of the character table without numerals.
    return "".join(chr(0x5700 + rng.randrange(3000)) for _ in range(length))


def test_copies_that_differ_in_layout_are_exact() -> None:
    seen = Deduplicator()
    assert seen.add(CONTEXT, STEPS) is None
    assert seen.add(CONTEXT, STEPS) == "exact"
    assert seen.add(CONTEXT.replace("，", ", ").replace("36", "３６"), "\n\n".join(STEPS)) == "exact"


@pytest.mark.parametrize(("one", "other"), [("3.5", "35"), ("3+5", "3-5"), ("1/2", "12"), ("15%", "15")])
def test_what_makes_a_number_is_content(one: str, other: str) -> None:
    seen = Deduplicator()
    assert seen.add(f"求{one}", []) is None
    assert seen.add(f"求{other}", []) != "exact"
    assert normalise(one) != normalise(other)


def test_a_small_change_of_words_is_near() -> None:
    seen = Deduplicator()
    assert seen.add(CONTEXT, STEPS) is None
    assert seen.add(CONTEXT.replace("图书馆", "阅览室"), STEPS) == "near"
    assert seen.add(CONTEXT, [*STEPS[:2], STEPS[2] + "完毕"]) == "near"


def test_other_numbers_are_another_problem() -> None:
    seen = Deduplicator()
    # So long that a changed number leaves the words well above the threshold.
    background = random_text(random.Random(4), 200)
    assert seen.add(background + CONTEXT, "略") is None
    assert seen.add(background + CONTEXT.replace("36", "37"), "略") is None
    assert seen.add(background + CONTEXT.replace("36", "12").replace("少12", "少36"), "略") is None
    assert seen.add(background + CONTEXT.replace("2倍", "三倍"), "略") is None
    assert seen.add(background + CONTEXT.replace("图书馆", "阅览室"), "略") == "near"


def test_same_problem_with_another_chain_is_kept() -> None:
    seen = Deduplicator()
    assert seen.add(CONTEXT, STEPS) is None
    other = ["设上午借出x本，那么下午借出2x-12本。", "代入得到下午60本。", "两部分相加，合计九十六本，检验无误。"] * 2
    assert seen.add(CONTEXT, other) is None


@pytest.mark.parametrize("direct", [0, 10_000])
def test_planted_near_copies_among_many(direct: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of looking, through the index and one by one, find the planted copies and nothing else."""
    monkeypatch.setattr(dedup, "_DIRECT", direct)
    rng = random.Random(1)
    texts = [random_text(rng, 200) for _ in range(300)]
    seen = Deduplicator()
    assert [seen.add(text, "") for text in texts] == [None] * 300
    # 4 changed characters in 200 spoil at most 20 of 196 five-grams: a similarity of about 0.82 to 0.9.
    near = ["".join((text[:50], "改", text[51:120], "动", text[121:])) for text in texts]
    assert [seen.add(text, "") for text in near].count("near") >= 290
    half = [text[:100] + random_text(rng, 100) for text in texts]
    assert [seen.add(text, "") for text in half] == [None] * 300


def test_the_threshold_is_a_similarity() -> None:
    rng = random.Random(2)
    text = random_text(rng, 400)
    changed = text[:300] + random_text(rng, 100)  # shares 296 of 496 five-grams: 0.6
    strict, loose = Deduplicator(0.8), Deduplicator(0.45)
    assert [strict.add(each, "") for each in (text, changed)] == [None, None]
    assert [loose.add(each, "") for each in (text, changed)] == [None, "near"]


def test_adding_the_kept_again_rebuilds_the_state() -> None:
    rng = random.Random(3)
    base = [random_text(rng, 120) for _ in range(100)]
    stream = [rng.choice(base)[: rng.choice((120, 118, 80))] for _ in range(400)]
    whole = Deduplicator()
    verdicts = [whole.add(text, "") for text in stream]
    assert {"exact", "near", None} == set(verdicts)
    resumed = Deduplicator()
    for text, verdict in zip(stream[:200], verdicts[:200], strict=True):
        if verdict is None:
            assert resumed.add(text, "") is None
    assert [resumed.add(text, "") for text in stream[200:]] == verdicts[200:]


@pytest.mark.parametrize("changes", [{"threshold": 0}, {"threshold": 1.5}, {"ngram": 0}, {"num_perm": 100}])
def test_bad_parameters_are_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        Deduplicator(**changes)


def test_numbers_of_a_text() -> None:
    assert numbers_of("３个人，每人2.5元，一共三十元") == ("3", "2.5", "三十")
    assert numbers_of("一起出发") == ()
