"""Pain 16, modelscope/ms-swift#9671, #9644: a served teacher is not the model that was meant.

TRL's trainer against a server asks it for log-probs and never compares them with a local copy.
"""

import copy

import pytest
import torch
from teacher_server import FakeServer, local_log_probs

from hf_reason.teachers.errors import TeacherError
from hf_reason.teachers.served import ServedTeacher


@pytest.fixture
def model(tiny_model):
    with torch.no_grad():
        tiny_model.lm_head.weight.mul_(100)
    return tiny_model.eval()


def _quantised(model):
    """A copy with four bits a weight, rounded row by row."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in (part.weight for part in other.modules() if isinstance(part, torch.nn.Linear)):
            scale = weight.abs().amax(dim=1, keepdim=True) / 7
            weight.copy_((weight / scale).round() * scale)
    return other


@pytest.mark.parametrize("fault", ["none", "quantised", "adds a BOS", "another temperature", "one position late"])
def test_the_probe_at_the_start_tells_them_apart(monkeypatch, model, tokenizer, records, fault):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = FakeServer(_quantised(model) if fault == "quantised" else model)
    try:
        if fault == "adds a BOS":
            server.read = lambda prompt: [tokenizer.eos_token_id, *prompt]
        elif fault == "another temperature":
            server.change = lambda entries: [
                entry and {token: {"logprob": value["logprob"] * 0.7} for token, value in entry.items()}
                for entry in entries
            ]
        elif fault == "one position late":
            server.change = lambda entries: [None, entries[1], *entries[1:-1]]
        texts = [tokenizer(row["context"])["input_ids"][:24] for row in records[:2]]
        teacher = ServedTeacher(server.url, top_k=5)

        def probe():
            return teacher.probe(texts, lambda given: local_log_probs(model, given))

        if fault == "none":
            assert probe()["kl"] < 1e-5
        else:
            with pytest.raises(TeacherError):
                probe()
    finally:
        server.close()
