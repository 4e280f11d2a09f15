"""Replay: counts, proportions, what is left out, repeatability."""

import pytest
from datasets import Dataset

from hf_reason.data import DataError
from hf_reason.data.record import make_record
from hf_reason.data.replay import mix_replay


def _records(domain, numbers):
    return Dataset.from_list([make_record(f"{domain}{n}有几个?", ["1+1=2"], "2", domain=domain) for n in numbers])


@pytest.fixture(scope="module")
def old():
    from datasets import concatenate_datasets

    return concatenate_datasets([_records("math", range(60)), _records("legal", range(30))])


def test_share_and_domains_of_the_replay(old):
    mix = mix_replay(_records("finance", range(40)), old, 0.2, seed=3)
    assert mix.new == {"finance": 40}
    assert mix.replayed == {"legal": 3, "math": 7}  # 10 of 50, one third of them legal
    assert len(mix.records) == 50 and len(set(mix.records["id"])) == 50
    again = mix_replay(_records("finance", range(40)), old, 0.2, seed=3)
    assert again.records["id"] == mix.records["id"]
    assert mix_replay(_records("finance", range(40)), old, 0.2, seed=4).records["id"] != mix.records["id"]
    assert str(mix).startswith("50 training records: new 40 (finance 40), replayed 10 (legal 3, math 7)")


def test_no_replay_and_more_than_there_is(old):
    new = _records("finance", range(40))
    assert mix_replay(new, old, 0.0).replayed == {}
    assert mix_replay(new, old, 0.9).replayed == {"legal": 30, "math": 60}


def test_known_records_and_those_of_a_test_split_are_left_out(old):
    tests = (_records("finance", range(5)), _records("math", [70]))
    new = Dataset.from_list(
        [*_records("finance", range(8)), *_records("math", range(58, 63)), *_records("math", [70])]
    )
    mix = mix_replay(new, old, 0.0, tests=tests)
    assert (mix.known, mix.leaked) == (2, 6)
    assert mix.new == {"finance": 3, "math": 3}
    assert not set(mix.records["id"]) & {name for split in tests for name in split["id"]}


def test_replay_takes_nothing_that_is_tested_and_new_records_count_once(old):
    new = Dataset.from_list([*_records("finance", range(4)), *_records("finance", range(2))])
    mix = mix_replay(new, old, 0.95, tests=(_records("math", range(50)),))
    assert (mix.new, mix.known, mix.leaked) == ({"finance": 4}, 2, 50)
    assert mix.replayed == {"legal": 30, "math": 10}  # all that is left
    assert not set(mix.records["id"]) & set(_records("math", range(50))["id"])


def test_errors(old):
    with pytest.raises(DataError, match="of 3 new records 3 are in the old data already"):
        mix_replay(_records("math", range(3)), old, 0.2)
    with pytest.raises(DataError, match="replay_ratio must be"):
        mix_replay(_records("finance", range(3)), old, 1.0)
