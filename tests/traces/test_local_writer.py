"""A teacher in this process: every sample is its own, whatever is written beside it."""

import pytest

from hf_reason.traces import LocalWriter, TraceSettings
from hf_reason.traces.settings import Job


@pytest.fixture
def jobs(records):
    settings = TraceSettings()
    return [Job(r, n, settings.seed_of(r["id"], n)) for r in records[:3] for n in range(3)]


def _write(model, tokenizer, jobs, batch_size, **settings):
    settings = TraceSettings(**{"max_completion_length": 12, "temperature": 1.0, **settings})
    writer = LocalWriter(model, tokenizer, settings, batch_size=batch_size)
    batches = list(writer.write(jobs))
    return {(row["id"], row["sample"]): row for rows in batches for row in rows}, batches


def test_a_sample_is_the_same_in_every_batch(tiny_model, tokenizer, jobs):
    alone, _ = _write(tiny_model, tokenizer, jobs, 1)
    for batch_size in (2, 5, 16):
        assert _write(tiny_model, tokenizer, jobs, batch_size)[0] == alone
    assert len({row["content"] for row in alone.values()}) > len(jobs) // 2
    some, _ = _write(tiny_model, tokenizer, jobs[4:6], 2)
    assert all(alone[name] == row for name, row in some.items())


def test_others_join_when_half_have_ended(tiny_model, tokenizer, jobs, monkeypatch):
    from hf_reason.traces import local

    sizes, real = [], local.run_batch
    monkeypatch.setattr(local, "run_batch", lambda *args: sizes.append(len(args[3])) or real(*args))
    rows, batches = _write(tiny_model, tokenizer, jobs, 4, max_completion_length=60)
    assert len(rows) == len(jobs) == sum(map(len, batches)) and sizes[0] == 4 and max(sizes) <= 4
    assert all(0 < row["completion_tokens"] <= 60 for row in rows.values())
    assert all(row["ended"] or row["completion_tokens"] == 60 for row in rows.values())


def test_what_cannot_work(tiny_model, tokenizer, jobs):
    with pytest.raises(ValueError, match="needs a temperature"):
        LocalWriter(tiny_model, tokenizer, TraceSettings(temperature=None))
    with pytest.raises(ValueError, match="batch_size"):
        LocalWriter(tiny_model, tokenizer, TraceSettings(), batch_size=0)
