"""The records of a round: old ones from several places, and tests that the old data do not train on."""

import pytest
from datasets import Dataset, DatasetDict

from hf_reason.cli.arguments import ContinualArguments, DataArguments
from hf_reason.cli.inputs.datasets import first_of_each
from hf_reason.cli.inputs.round_data import load_round_data
from hf_reason.data import DataError
from hf_reason.data.record import make_record
from hf_reason.trainers import CoTSFTConfig


def _rows(domain, numbers):
    return [make_record(f"{domain}{n}有几个?", ["1+1=2"], "2", domain=domain) for n in numbers]


@pytest.fixture
def place(tmp_path):
    def save(name, **splits):
        DatasetDict({split: Dataset.from_list(rows) for split, rows in splits.items()}).save_to_disk(tmp_path / name)
        return str(tmp_path / name)

    return save


def _load(tmp_path, new, old, domains=None):
    args = CoTSFTConfig(str(tmp_path / "out"), report_to="none", use_cpu=True, bf16=False)
    round_args = ContinualArguments(old_dataset=old, old_domains=domains)
    return load_round_data(DataArguments(dataset_name=new), round_args, args)


def test_old_records_of_several_places_count_once_and_new_tests_are_unseen(tmp_path, place, capsys):
    one = place("one", train=_rows("math", range(6)), test=_rows("math", range(20, 23)))
    two = place("two", train=_rows("math", range(4, 8)) + _rows("legal", range(3)), test=_rows("legal", range(9, 11)))
    # of the new tests one is trained on by the old data, and one is tested by them already
    tested = _rows("math", [5, 20, 30]) + _rows("finance", [40])
    new = place("new", train=_rows("finance", range(5)), test=tested)
    found = _load(tmp_path, new, [one, two])
    assert sorted(found.old["id"]) == sorted(row["id"] for row in _rows("math", range(8)) + _rows("legal", range(3)))
    assert found.old_domains == ("legal", "math") and len(found.old_test) == 5
    assert found.new_test["id"] == [row["id"] for row in tested[2:]]
    assert "without a test" not in capsys.readouterr().err
    only = _load(tmp_path, new, [one, two], ["legal"])
    assert only.old_domains == ("legal",) and set(only.old["domain"]) == set(only.old_test["domain"]) == {"legal"}


def test_new_records_without_a_test_split_are_said_to_have_none(tmp_path, place, capsys):
    old = place("old", train=_rows("math", range(6)), test=_rows("math", range(20, 23)))
    found = _load(tmp_path, place("new", train=_rows("finance", range(5))), [old])
    assert len(found.new) == 5 and len(found.new_test) == 0
    assert "without a test of their own" in capsys.readouterr().err


def test_errors_name_the_place_and_what_there_is(tmp_path, place):
    old = place("old", train=_rows("math", range(6)) + _rows("legal", [1]), test=_rows("math", range(20, 23)))
    new = place("new", train=_rows("finance", range(5)))
    with pytest.raises(DataError, match=r"old, split train: no record of the domain 'medical'. There is: legal \(1\)"):
        _load(tmp_path, new, [old], ["medical"])


def test_old_domains_without_a_test_record_are_replayed_and_not_measured(tmp_path, place, capsys):
    train = _rows("math", range(6)) + _rows("legal", [1])
    old = place("old", train=train, test=_rows("math", range(20, 23)))
    bare = place("bare", train=_rows("medical", [1]))
    new = place("new", train=_rows("finance", range(5)))
    found = _load(tmp_path, new, [old, bare])
    assert found.old_domains == ("math",) and set(found.old["domain"]) == {"math", "legal", "medical"}
    assert "no test record of legal, medical: these are replayed" in capsys.readouterr().err
    for places, domains in (([bare], None), ([old], ["legal"])):
        with pytest.raises(DataError, match="no old domain has a test record.*--test_size.*--domain"):
            _load(tmp_path, new, places, domains)


def test_first_of_each_domain():
    records = Dataset.from_list(_rows("math", range(4)) + _rows("legal", range(1)) + _rows("math", range(5, 7)))
    assert first_of_each(records, 2)["domain"] == ["math", "math", "legal"]
    assert len(first_of_each(records, None)) == 7
