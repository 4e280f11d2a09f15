"""Duplicates are found, and problems with other numbers are kept."""

import random
from pathlib import Path

import pytest
from key_files import key_file, verdicts
from tiny import run_python

from hf_reason.data.clean.dedup import EXACT, NEAR, NEW, SIGNATURE_LENGTH, bands, find_duplicates, sketches
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
    other = CONTEXT.replace("，", ", ").replace("36", "３６")
    assert verdicts([(CONTEXT, STEPS), (CONTEXT, STEPS), (other, "\n\n".join(STEPS))]) == [None, "exact", "exact"]


@pytest.mark.parametrize(("one", "other"), [("3.5", "35"), ("3+5", "3-5"), ("1/2", "12"), ("15%", "15")])
def test_what_makes_a_number_is_content(one: str, other: str) -> None:
    first, second = verdicts([(f"求{one}", []), (f"求{other}", [])])
    assert first is None and second != "exact"
    assert normalise(one) != normalise(other)


def test_a_small_change_of_words_is_near() -> None:
    found = verdicts(
        [(CONTEXT, STEPS), (CONTEXT.replace("图书馆", "阅览室"), STEPS), (CONTEXT, [*STEPS[:2], STEPS[2] + "完毕"])]
    )
    assert found == [None, "near", "near"]


def test_other_numbers_are_another_problem() -> None:
    # So long that a changed number leaves the words well above the threshold.
    background = random_text(random.Random(4), 200)
    contexts = [
        CONTEXT,
        CONTEXT.replace("36", "37"),
        CONTEXT.replace("36", "12").replace("少12", "少36"),
        CONTEXT.replace("2倍", "三倍"),
        CONTEXT.replace("图书馆", "阅览室"),
    ]
    assert verdicts([(background + context, "略") for context in contexts]) == [None, None, None, None, "near"]


def test_same_problem_with_another_chain_is_kept() -> None:
    other = ["设上午借出x本，那么下午借出2x-12本。", "代入得到下午60本。", "两部分相加，合计九十六本，检验无误。"] * 2
    assert verdicts([(CONTEXT, STEPS), (CONTEXT, other)]) == [None, None]


def test_planted_near_copies_among_many() -> None:
    rng = random.Random(1)
    texts = [random_text(rng, 200) for _ in range(300)]
    # 4 changed characters in 200 spoil at most 20 of 196 five-grams: a similarity of about 0.82 to 0.9.
    near = ["".join((text[:50], "改", text[51:120], "动", text[121:])) for text in texts]
    half = [text[:100] + random_text(rng, 100) for text in texts]
    found = verdicts([(text, "") for text in texts + near + half])
    assert found[:300] == found[600:] == [None] * 300
    assert found[300:600].count("near") >= 290


def test_the_verdicts_are_those_of_a_plain_search() -> None:
    """One by one, against all that are kept, as the definition says."""
    rng = random.Random(5)
    base = [random_text(rng, 120) for _ in range(40)]
    texts = [rng.choice(base)[rng.randrange(8) : rng.choice((120, 118, 80))] for _ in range(400)]
    rows = sketches([(text, "") for text in texts])
    kinds, of, kept = [], [], []
    for row in range(len(rows)):
        same = [other for other in kept if rows["exact"][other] == rows["exact"][row]]
        alike = [(rows["signature"][other] == rows["signature"][row]).mean() for other in kept]
        best = max(alike, default=0)
        kinds.append(EXACT if same else NEAR if best >= 0.8 else NEW)
        of.append(same[0] if same else kept[alike.index(best)] if best >= 0.8 else row)
        if kinds[-1] == NEW:
            kept.append(row)
    with key_file(rows) as keys:
        found = find_duplicates(keys, 0.8)
    assert {EXACT, NEAR, NEW} == set(kinds)
    assert found.kind.tolist() == kinds and found.of.tolist() == of


def test_the_threshold_is_a_similarity() -> None:
    rng = random.Random(2)
    text = random_text(rng, 400)
    changed = text[:300] + random_text(rng, 100)  # shares 296 of 496 five-grams: 0.6
    texts = [(text, ""), (changed, "")]
    assert verdicts(texts, 0.8) == [None, None]
    assert verdicts(texts, 0.45) == [None, "near"]


def test_a_copy_of_a_near_duplicate_is_one_too() -> None:
    other = CONTEXT.replace("图书馆", "阅览室")
    rows = sketches([(CONTEXT, STEPS), (other, STEPS), (other, STEPS)])
    with key_file(rows) as keys:
        found = find_duplicates(keys)
    assert found.kind.tolist() == [NEW, NEAR, NEAR] and found.of.tolist() == [0, 0, 0]


def test_nothing_in_nothing_out() -> None:
    assert verdicts([]) == []


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.9, 1.0])
def test_a_pair_at_the_threshold_has_a_band_in_common(threshold: float) -> None:
    cut = bands(threshold)
    rows = cut[0].stop
    assert all(band.stop - band.start == rows and band.stop <= SIGNATURE_LENGTH for band in cut)
    assert 1 - (1 - threshold**rows) ** len(cut) >= 0.99


@pytest.mark.parametrize("threshold", [0, 1.5, -1])
def test_bad_thresholds_are_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        verdicts([("a", "b")], threshold)


def test_memory_does_not_follow_the_signatures(tmp_path: Path) -> None:
    """300,000 rows are 77 MB of signatures; a part of them is in memory at a time."""
    code = (
        "import resource, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from hf_reason.data.clean.dedup import SKETCH, find_duplicates\n"
        "from hf_reason.data.clean.key_file import KeyFile\n"
        "rows = int(sys.argv[1])\n"
        "rng, path = np.random.default_rng(0), Path(sys.argv[2])\n"
        "with open(path, 'wb') as file:\n"
        "    for start in range(0, rows, 1000):\n"
        "        part = np.zeros(1000, SKETCH)\n"
        "        part['exact'] = np.arange(start, start + 1000)\n"
        "        part['signature'] = rng.integers(0, 65536, (1000, 128))\n"
        "        file.write(part.tobytes())\n"
        "with KeyFile(path, SKETCH) as keys:\n"
        "    assert not find_duplicates(keys).kind.any()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)\n"
    )
    peaks = [int(run_python("-c", code, str(rows), str(tmp_path / "keys")).stdout) for rows in (1000, 300_000)]
    assert (peaks[1] - peaks[0]) / 299_000 < 150


def test_numbers_of_a_text() -> None:
    assert numbers_of("３个人，每人2.5元，一共三十元") == ("3", "2.5", "三十")
    assert numbers_of("一起出发") == ()
