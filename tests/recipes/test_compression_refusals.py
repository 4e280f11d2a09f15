"""The gate on a model that really reasons: it passes unharmed, and is refused once it was broken on purpose."""

import json

import pytest
import torch
from datasets import Dataset, DatasetDict
from tiny import save_model, tiny_qwen2

from hf_reason import compression
from hf_reason.cli.main import main
from hf_reason.text import encode

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reasoner(_session_tokenizer, records, tmp_path_factory):
    """A tiny model that knows the chains of four records by heart, and these records as data."""
    place, tokenizer = tmp_path_factory.mktemp("reasoner"), _session_tokenizer
    known = sorted(records, key=lambda record: len(encode(record, tokenizer)["input_ids"]))[:4]
    model = tiny_qwen2(tokenizer, hidden_size=48, intermediate_size=96, num_hidden_layers=1)
    rows = [encode(record, tokenizer) for record in known]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        losses = [model(**{key: torch.tensor([row[key]]) for key in ("input_ids", "labels")}).loss for row in rows]
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.01:
            break
    assert loss < 0.05
    save_model(place / "model", model.eval(), tokenizer)
    DatasetDict({name: Dataset.from_list(known) for name in ("train", "test")}).save_to_disk(place / "data")
    return place, max(sum(label >= 0 for label in row["labels"]) for row in rows)


@pytest.fixture
def prune(reasoner, tmp_path, monkeypatch, capsys):
    place, longest = reasoner
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))

    def run(*arguments):
        where = ("--model_name_or_path", str(place / "model"), "--dataset_name", str(place / "data"))
        limits = ("--max_completion_length", str(longest + 4), "--use_cpu", "--output_dir", "small")
        code = main(["prune", *where, *limits, *arguments])
        return code, *capsys.readouterr(), json.loads(next(tmp_path.glob("small*/compression.json")).read_text())

    return run


def test_what_still_reasons_passes(prune):
    code, out, err, report = prune("--ratio", "0.02", "--modules", "feed_forward")
    assert code == 0, err
    assert report["before"]["answer_accuracy"] == report["after"]["answer_accuracy"] == 1.0
    assert report["after"]["close_rate"] == 1.0 and report["lost"] == 0


def test_a_model_broken_on_purpose_is_refused_and_not_pushed(prune, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_reason.cli.compressing.check_can_push", lambda args: None)
    monkeypatch.setattr("hf_reason.cli.finish.push_folder", lambda args: pytest.fail("it was pushed"))
    code, out, err, report = prune("--ratio", "0.95", "--modules", "all", "--push_to_hub", "true")
    assert code == 3 and "answer accuracy fell from 100.0% to" in err
    assert report["lost"] == 4 and not report["passed"] and not (tmp_path / "small").exists()


def test_a_model_that_never_closes_its_thought_is_refused(prune, monkeypatch, tokenizer):
    """Every weight is right, but the end of the thought cannot be written: points that may be lost do not help."""
    weights = compression.prune_weights

    def mute(model, *args, **options):
        head = model.get_output_embeddings()
        ids = tokenizer("</think>", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            last = torch.zeros_like(head.weight[:1]).expand(len(head.weight), -1).clone()
            last[ids[0]] = head.weight[ids[0]]
            head.weight.sub_(2 * last)
        return weights(model, *args, **options)

    monkeypatch.setattr(compression, "prune_weights", mute)
    code, _, err, report = prune("--ratio", "0.02", "--modules", "feed_forward", "--max_drop", "100")
    assert code == 0, "without a least rate, 100 points may be lost"
    code, _, err, report = prune(
        "--ratio", "0.02", "--modules", "feed_forward", "--max_drop", "100", "--min_close_rate", "0.9",
        "--output_dir", "small-strict",
    )  # fmt: skip
    assert code == 3 and "only 0.0% of the thoughts are closed (100.0% before, 90.0% are asked for)" in err
