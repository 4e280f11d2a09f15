"""The built-in sample: what it holds, and that the pipeline takes exactly what was put in to be taken."""

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml
from key_files import verdicts

import hf_reason.data as data_package
from hf_reason.answers.equations import find_equations
from hf_reason.data.clean.filters import FilterConfig, failed_filter
from hf_reason.data.languages import cjk_ratio
from hf_reason.data.load import sample_files
from hf_reason.data.prepare import prepare
from hf_reason.data.read.sources import read_traces, trace_to_record
from hf_reason.data.record import DOMAINS, RawTrace

SAMPLE = Path(data_package.__file__).parent / "sample"
EXPECTED = yaml.safe_load((SAMPLE / "expected.yaml").read_text(encoding="utf-8"))
BAD = {(name, row): reason for name, file in EXPECTED.items() for row, reason in file["bad"].items()}

Trace = tuple[tuple[str, int], RawTrace, dict]


def place(source: str) -> tuple[str, int]:
    """File name and row of a record's source."""
    path, _, row = source.rpartition("#")
    return Path(path).name, int(row)


@pytest.fixture(scope="module")
def traces() -> list[Trace]:
    found = [(place(trace.source), trace) for path in sample_files() for trace in read_traces(path)]
    return [(where, trace, trace_to_record(trace)) for where, trace in found]


@pytest.fixture(scope="module")
def good(traces: list[Trace]) -> list[Trace]:
    return [entry for entry in traces if entry[0] not in BAD]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list[dict]]:
    """The report and the records of the sample after a preparation with the default settings."""
    from datasets import load_from_disk

    output = tmp_path_factory.mktemp("sample") / "prepared"
    report = prepare(SAMPLE, output, progress=False)
    return report, [record for split in load_from_disk(str(output)).values() for record in split]


def test_files_are_the_expected_ones_and_small():
    assert [path.name for path in sample_files()] == sorted(EXPECTED)
    assert len(EXPECTED) == 8
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 600_000


def test_every_row_is_one_trace(traces):
    rows = Counter(name for (name, _), _, _ in traces)
    assert rows == {name: file["records"] for name, file in EXPECTED.items()}
    assert rows.total() >= 300
    assert len({where for where, _, _ in traces}) == len(traces)


def test_two_dialogues_have_an_earlier_turn():
    rows = [json.loads(line) for line in (SAMPLE / "api_messages.jsonl").read_text(encoding="utf-8").splitlines()]
    turns = Counter(sum(message["role"] == "user" for message in row["messages"]) for row in rows)
    assert turns == {1: len(rows) - 2, 2: 2}
    assert len(list(read_traces(SAMPLE / "api_messages.jsonl", history="split"))) == len(rows) + 2


def test_each_domain_has_thirty_good_records_and_a_tenth_is_english(good):
    domains: Counter[str] = Counter()
    for file in EXPECTED.values():
        domains.update(file["good"])
    assert set(domains) == set(DOMAINS)
    assert min(domains.values()) >= 30
    assert domains.total() == len(good)
    english = sum(cjk_ratio(record["context"]) < 0.5 for _, _, record in good)
    assert 0.08 < english / len(good) < 0.15


def test_good_chains_have_three_to_eight_steps_without_their_numbering(good):
    lengths = Counter(len(record["steps"]) for _, _, record in good)
    assert min(lengths) >= 3 and max(lengths) <= 8
    assert not [where for where, _, record in good if record["steps"][1].startswith(("步骤", "2.", "（2）", "Step"))]


def test_every_equation_of_a_good_record_holds(good):
    texts = [(where, "\n".join([*record["steps"], record["answer"]])) for where, _, record in good]
    equations = [(where, equation) for where, text in texts for equation in find_equations(text)]
    assert len(equations) > 250
    assert [(where, equation) for where, equation in equations if not equation.holds] == []


def test_each_bad_record_is_taken_by_its_filter_and_no_good_one_is(traces):
    reasons = {where: failed_filter(trace, record, FilterConfig()) for where, trace, record in traces}
    taken = {where: reason for where, reason in reasons.items() if reason is not None}
    left = {where: (record["context"], record["steps"]) for where, _, record in traces if where not in taken}
    for where, kind in zip(left, verdicts(left.values()), strict=True):
        if kind is not None:
            taken[where] = f"{kind}_duplicate"
    assert taken == BAD


def test_ten_filters_have_at_least_four_records_each_to_take():
    counts = Counter(BAD.values())
    assert len(counts) == 10
    assert min(counts.values()) >= 4


def test_preparing_it_keeps_the_good_records_and_counts_the_others(prepared, good):
    report, records = prepared
    assert sorted(place(record["source"]) for record in records) == sorted(where for where, _, _ in good)
    counts = report["counts"]
    assert Counter(counts["filters"]) == Counter(BAD.values())
    assert counts["in"] == counts["out"] + len(BAD) == sum(file["records"] for file in EXPECTED.values())


def test_domains_are_tagged_as_they_were_meant(prepared):
    found: dict[str, Counter[str]] = {name: Counter() for name in EXPECTED}
    for record in prepared[1]:
        found[place(record["source"])[0]][record["domain"]] += 1
    assert found == {name: file["good"] for name, file in EXPECTED.items()}
