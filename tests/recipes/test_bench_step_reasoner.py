"""recipes/bench/bench_step_reasoner.py at a tiny size: what it feeds both sides, and what it writes."""

import json
import shlex
import subprocess

import pytest

_TINY = shlex.split(
    "--layers 2 2 1 --hidden_size 16 --intermediate_size 24 --heads 2 --kv_heads 1 --vocab_size 60 --prompt_tokens 9 "
    "--chain_tokens 31 --step_tokens 6 9 --train_batch 2 --decode_batch 1 3 --repeats 2 --plan_slots 1 "
    "--trigger_every 4"
)


@pytest.fixture
def bench(bench_module):
    return bench_module("bench_step_reasoner")


def test_ids_have_steps_and_triggers_where_they_should(bench):
    args = bench.parse(_TINY)
    ids = bench.random_ids(3, args)
    assert ids.shape == (3, 40)
    assert (ids[:, :9] >= bench.FIRST).all() and (ids[:, 9] == bench.THINK).all()
    for row in ids[:, 10:].tolist():
        ends = [-1] + [place for place, token in enumerate(row) if token == bench.BOUNDARY]
        steps = [row[a + 1 : b] for a, b in zip(ends, ends[1:], strict=False)]
        assert len(steps) >= 2 and all(5 <= len(step) <= 8 for step in steps)
        assert all(
            [i for i, token in enumerate(step, 1) if token == bench.TRIGGER] == [4, 8][: len(step) // 4]
            for step in steps
        )
    assert bench.random_ids(3, args).equal(ids)


def test_the_figures_of_a_tiny_run(bench, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, "12.5\n"))
    monkeypatch.setenv("COLUMNS", "120")
    bench.main([*_TINY, "--json", str(tmp_path / "figures.json")])
    written = json.loads((tmp_path / "figures.json").read_text())
    figures = written["figures"]
    assert set(figures) >= {"train tok/s", "train peak MB", "first token s, batch 3", "decode tok/s, batch 3"}
    for name, sides in figures.items():
        repeats = 1 if name in ("parameters, M", "train peak MB") else 2
        assert list(sides) == ["decoder-only", "StepReasoner"]
        assert all(len(values) == repeats and min(values) > 0 for values in sides.values())
    assert written["arguments"]["layers"] == [2, 2, 1]
    plain, ours = figures["parameters, M"].values()
    assert ours[0] * 1e6 - plain[0] * 1e6 == pytest.approx(16)  # the plan slot
    # 39 tokens read (the last one is not), two tensors of 8 floats in each of 5 layers
    assert figures["cache MB, batch 1"]["decoder-only"][0] * 1e6 == 39 * 2 * 8 * 4 * 5
    assert "StepReasoner" in capsys.readouterr().out


def test_memory_process_prints_one_number(bench, monkeypatch, capsys):
    monkeypatch.setattr(bench, "measure_peak", lambda side, args: f"{side} {args.train_batch}")
    bench.main([*_TINY, "--peak", "StepReasoner"])
    assert capsys.readouterr().out.strip() == "StepReasoner 2"


def test_decoding_follows_the_forced_chain_through_the_pieces(bench):
    args = bench.parse(_TINY)
    ids = bench.random_ids(1, args)
    found = bench.decode(bench.build("StepReasoner", args).eval(), ids, args)
    # of 40 ids 39 are read; a piece that ends with the last of them waits for a next token
    finished = [i for i, token in enumerate(ids[0, :38].tolist()) if token in (bench.BOUNDARY, bench.TRIGGER)]
    assert len(finished) > 3
    # memory: prompt and finished pieces, which begin at the prompt's last token, and a slot before each and the next
    memory = 9 + (finished[-1] - 8 + 1) + len(finished) + 1
    own = 39 - 8  # the decoder's own: the prompt's last token and the chain that was read
    assert found["cache"] * 1e6 == (2 * memory + 1 * (memory + own)) * 2 * 8 * 4
