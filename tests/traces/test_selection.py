"""Which chains become records and pairs, and in which form others read them."""

import json

import pytest

from hf_reason.data import prepare, read_traces
from hf_reason.traces.generate import generate_traces
from hf_reason.traces.reading import Verified
from hf_reason.traces.selection import Counts, paired, rate_bin, solve
from hf_reason.traces.settings import TraceSettings, sample_row
from hf_reason.trainers.sampling.difficulty import solve_rates

RIGHT, LONG, WRONG, STEP, CUT = "right", "long", "wrong", "step", "cut"


def _sample(number, kind, tokens=10):
    steps = {LONG: ["1+1=2", "想一想。"], STEP: ["1+1=3"]}.get(kind, ["1+1=2"])
    return Verified(
        sample=number,
        steps=steps,
        answer=f"{number} {kind}",
        finished=kind != CUT,
        correct=kind in (RIGHT, LONG, STEP),
        wrong_step=1 if kind == STEP else None,
        num_tokens=tokens,
    )


PROBLEM = {"id": "p", "context": "1+1?", "task": "", "answer": "2", "domain": "math"}
SAMPLES = [_sample(0, LONG, 30), _sample(1, WRONG, 12), _sample(2, RIGHT, 9), _sample(3, CUT), _sample(4, STEP, 28)]


@pytest.mark.parametrize(("keep", "kept"), [("all", [0, 1, 2, 4]), ("correct", [0, 2]), ("shortest_correct", [2])])
def test_what_is_kept(keep, kept):
    solved = solve(PROBLEM, SAMPLES, TraceSettings(keep=keep))
    assert [sample.sample for sample in solved.kept] == kept
    assert solved.pass_rate == 2 / 5 and solved.pairs == []


def test_pairs_are_of_like_length_and_each_chain_is_in_one():
    solved = solve(PROBLEM, SAMPLES, TraceSettings(pairs=4))
    assert [(right.sample, wrong.sample) for right, wrong in solved.pairs] == [(2, 1), (0, 4)]
    assert len(paired(SAMPLES[:1], [], 3)) == 0 and len(solve(PROBLEM, SAMPLES, TraceSettings(pairs=1)).pairs) == 1


def test_equal_chains_are_kept_once():
    same = [_sample(0, RIGHT), *[Verified(**{**vars(_sample(0, RIGHT)), "sample": n}) for n in (1, 2)]]
    solved = solve(PROBLEM, same, TraceSettings())
    assert len(solved.kept) == 1 and solved.equal == 2 and solved.pass_rate == 1


def test_without_verdicts_there_is_no_pass_rate():
    open_ones = [Verified(n, ["a"], "b", True, None, None, 5) for n in range(3)]
    solved = solve(PROBLEM, open_ones, TraceSettings(keep="all"))
    assert solved.pass_rate is None and len(solved.kept) == 1
    counts = Counts()
    counts.add(solved)
    assert counts.numbers["undecidable"] == 3 and counts.histogram["no verdict"] == 1


def test_bins():
    rates = [0, 0.01, 0.25, 0.5, 0.75, 0.99, 1, None]
    assert [rate_bin(rate) for rate in rates] == [
        *("0", "0-25%", "25-50%", "50-75%", "75-100%", "75-100%", "100%", "no verdict")
    ]


class _Teacher:
    """Writes the record's own chain for even samples, and a wrong answer for odd ones."""

    failures: dict[str, int] = {}

    def __init__(self):
        self.asked = []

    def write(self, jobs):
        for job in jobs:
            self.asked.append((job.record["id"], job.sample))
            steps = [f"步骤{n}:{step}" for n, step in enumerate(job.record["steps"], start=1)]
            answer = job.record["answer"] if job.sample % 2 == 0 else "-7"
            tail = "" if job.sample < 2 else "\n步骤0:又想了一遍。"
            counts = {"prompt_tokens": 5, "completion_tokens": 50 + job.sample}
            yield [sample_row(job, answer, thought="\n".join(steps) + tail, ended=True, forced=False, **counts)]


def _run(records, folder, teacher=None, **settings):
    return generate_traces(
        records, teacher or _Teacher(), TraceSettings(**settings), folder, teacher="t", identity={"prompts": "x"}
    )


def _lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_prepare_reads_the_folder_and_keeps_the_ids(tmp_path, records):
    problems = [{**record, "source": f"mine.jsonl#{number}"} for number, record in enumerate(records[:12], start=1)]
    report = _run(problems, tmp_path / "traces", num_samples=2, pairs=1)
    assert report["counts"]["kept"] == 12 and report["pass_rate"]["50-75%"] == 12
    traces = _lines(tmp_path / "traces" / "traces.jsonl")
    assert [row["context"] for row in traces] == [record["context"] for record in problems]
    assert traces[0]["provenance"]["teacher"] == "t" and traces[0]["source"] == "mine.jsonl#1"
    prepared = prepare([tmp_path / "traces"], tmp_path / "data", test_size=0, validation_size=0, progress=False)
    assert prepared["counts"]["in"] == 12, "samples, pairs and verdicts are no traces"
    from datasets import load_from_disk

    data = load_from_disk(str(tmp_path / "data"))["train"]
    rates = solve_rates(tmp_path / "traces")
    assert data["id"] and {rates[name] for name in data["id"]} == {0.5}
    assert set(data["id"]) <= {row["id"] for row in traces}


def test_the_answers_can_be_checked_again(tmp_path, records):
    _run(records[:6], tmp_path, num_samples=2, keep="all")
    traces = list(read_traces(tmp_path))
    assert len(traces) == 12 and {trace.reference for trace in traces} == {record["answer"] for record in records[:6]}
    assert sum(trace.answer == "-7" for trace in traces) == 6


def test_more_samples_ask_only_for_the_further_ones(tmp_path, records):
    _run(records[:3], tmp_path, num_samples=2)
    more = _Teacher()
    report = _run(records[:4], tmp_path, more, num_samples=3)
    known = {(record["id"], sample) for record in records[:3] for sample in range(2)}
    assert set(more.asked).isdisjoint(known) and len(more.asked) == 12 - 6 and report["missing_samples"] == 0
    nobody = _Teacher()
    assert _run(records[:4], tmp_path, nobody, num_samples=3, keep="shortest_correct")["counts"]["kept"] == 4
    assert nobody.asked == []


def test_a_run_stopped_anywhere_ends_with_the_same_files(tmp_path, records):
    _run(records[:4], tmp_path / "whole", num_samples=3, pairs=2)

    class Stops(_Teacher):
        def __init__(self, after):
            super().__init__()
            self.after = after

        def write(self, jobs):
            for number, rows in enumerate(super().write(jobs)):
                if number == self.after:
                    raise KeyboardInterrupt
                yield rows

    for after in (0, 1, 5):
        with pytest.raises(KeyboardInterrupt):
            _run(records[:4], tmp_path / "stopped", Stops(after), num_samples=3, pairs=2)
    last = _Teacher()
    _run(records[:4], tmp_path / "stopped", last, num_samples=3, pairs=2)
    assert len(last.asked) == 12 - 6
    for name in ("traces.jsonl", "pairs.jsonl", "predictions.jsonl", "traces.json", "samples.jsonl"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "stopped" / name).read_text(), name


def test_refusals(tmp_path, records):
    _run(records[:2], tmp_path, num_samples=2)
    with pytest.raises(ValueError, match=r"other settings \(temperature: 0.6 -> 1.0\)"):
        _run(records[:2], tmp_path, num_samples=2, temperature=1.0)
    with pytest.raises(ValueError, match="none of the 2 problems has an answer.*--keep all"):
        _run([{**record, "answer": ""} for record in records[:2]], tmp_path / "other")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "traces.jsonl").write_text("{}")
    with pytest.raises(ValueError, match="did not write"):
        _run(records[:2], tmp_path / "foreign")
    with pytest.raises(ValueError, match="no problems"):
        _run([], tmp_path / "other")
    from filelock import FileLock

    with FileLock(tmp_path / ".lock"), pytest.raises(ValueError, match="another run is writing here"):
        _run(records[:2], tmp_path, num_samples=2)


def test_pairs_are_in_the_format_of_trl(tmp_path, records, tokenizer):
    from trl.data_utils import is_conversational, maybe_apply_chat_template

    _run(records[:3], tmp_path, num_samples=2, pairs=1)
    for row, record in zip(_lines(tmp_path / "pairs.jsonl"), records[:3], strict=True):
        assert is_conversational(row)
        texts = maybe_apply_chat_template({name: row[name] for name in ("prompt", "chosen", "rejected")}, tokenizer)
        assert record["context"] in texts["prompt"] and record["answer"] in texts["chosen"]
        assert "-7" in texts["rejected"] and "</think>" in texts["rejected"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"temperature": 0}, "chains of a problem equal"),
        ({"temperature": -1}, "temperature must be between"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"keep": "best"}, "keep must be one of all, correct, shortest_correct"),
        ({"verify_steps": "all"}, "verify_steps must be one of"),
        ({"pairs": 1, "num_samples": 1}, "set num_samples to 2 or more"),
        ({"pairs": -1}, "pairs must not be negative"),
    ],
)
def test_impossible_settings(values, message):
    with pytest.raises(ValueError, match=message):
        TraceSettings(**values)


def test_seeds_are_of_the_problem_and_the_sample_alone():
    settings = TraceSettings()
    seeds = {settings.seed_of(name, sample) for name in ("a", "b") for sample in range(50)}
    assert len(seeds) == 100 and all(0 <= seed < 2**31 for seed in seeds)
    assert TraceSettings(seed=1).seed_of("a", 0) != settings.seed_of("a", 0) == TraceSettings().seed_of("a", 0)
