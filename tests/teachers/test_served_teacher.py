"""A teacher behind a server: a fake one on loopback that answers as vLLM does, or wrongly in each way."""

import copy
import math

import numpy as np
import pytest
import torch
from teacher_server import FakeServer, local_log_probs

from hf_reason.teachers import client
from hf_reason.teachers.errors import TeacherError
from hf_reason.teachers.served import ServedTeacher
from hf_reason.teachers.top_k import log_tail

K = 5


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(client, "_BACKOFF", 0.0)
    monkeypatch.delenv(client.API_KEY_VARIABLE, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def model(tiny_model):
    # random weights are nearly uniform; a sharper head makes a wrong position or a wrong model visible
    with torch.no_grad():
        tiny_model.lm_head.weight.mul_(100)
    return tiny_model.eval()


@pytest.fixture
def server(model):
    fake = FakeServer(model)
    yield fake
    fake.close()


@pytest.fixture
def sequences(tokenizer, records):
    from hf_reason.text import render

    texts = ["".join(render(record).values()) for record in records[:4]]
    return [tokenizer(text)["input_ids"][: 12 + 7 * i] for i, text in enumerate(texts)]


def test_top_k_is_the_models_own(server, model, sequences):
    teacher = ServedTeacher(server.url + "/", top_k=K)
    answers = teacher.distributions([*sequences, sequences[0][:1]])
    for top, full in zip(answers, local_log_probs(model, sequences), strict=False):
        want = np.sort(full, axis=1)[:, ::-1][:, :K]
        assert top.ids.dtype == np.int64 and top.log_probs.dtype == top.log_tail.dtype == np.float32
        np.testing.assert_allclose(top.log_probs, want, atol=1e-4)
        np.testing.assert_array_equal(np.take_along_axis(full, top.ids, axis=1), top.log_probs)
        rest = np.sort(full.astype(np.float64), axis=1)[:, :-K]
        np.testing.assert_allclose(np.exp(top.log_tail), np.exp(rest).sum(axis=1), atol=1e-5)
    assert [a.shape for a in answers[-1]] == [(0, K), (0, K), (0,)]
    assert len(server.requests) == len(sequences)  # one token has no next one to ask about
    request = server.requests[0]
    assert (request["model"], request["max_tokens"], request["prompt_logprobs"]) == ("teacher", 1, K)


@pytest.mark.parametrize("mass", [0.0, 1e-12, 0.3, 0.6, 1 - 1e-9])
def test_log_tail_is_exact(mass):
    rest = np.log1p(-mass)
    got = log_tail(np.array([[math.log(mass / 2)] * 2 if mass else [-np.inf] * 2]))
    np.testing.assert_allclose(got, [rest], rtol=1e-6)


def test_log_tail_without_mass_is_minus_infinity():
    assert log_tail(np.array([[0.0, -9999.0], [1e-4, -20.0]])).tolist() == [-np.inf, -np.inf]


def test_all_tokens_leave_no_tail_to_disagree_about(server, model, sequences):
    k = model.config.vocab_size
    found = ServedTeacher(server.url, top_k=k).probe(sequences[:1], lambda given: local_log_probs(model, given))
    assert found["kl"] < 1e-5


def test_probe_of_a_good_server(server, model, sequences):
    teacher = ServedTeacher(server.url, top_k=K, vocab_size=model.config.vocab_size)
    assert list(teacher.probe(sequences)) == ["repeat"]
    found = teacher.probe(sequences, lambda given: local_log_probs(model, given))
    assert set(found) == {"kl", "largest", "repeat"}
    assert found["kl"] < 1e-6 and found["repeat"] < 1e-6 and found["largest"] < 1e-4


def test_other_weights_are_found_by_the_reference(server, model, sequences):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.lm_head.weight.mul_(0.8)
    teacher = ServedTeacher(server.url, top_k=K)
    with pytest.raises(TeacherError, match=r"is not the local one: KL.* nats .*sequence \d after token \d+.*weights"):
        teacher.probe(sequences, lambda given: local_log_probs(other, given))


def test_reference_of_another_shape(server, model, sequences):
    with pytest.raises(TeacherError, match="shape for sequence 0"):
        ServedTeacher(server.url, top_k=K).probe(
            sequences, lambda given: [x[1:] for x in local_log_probs(model, given)]
        )


@pytest.mark.parametrize("change", [lambda x: x + 5, lambda x: x * np.nan])
def test_reference_that_is_no_softmax(server, model, sequences, change):
    with pytest.raises(TeacherError, match="no log-probabilities for sequence 0"):
        ServedTeacher(server.url, top_k=K).probe(
            sequences, lambda given: [change(x) for x in local_log_probs(model, given)]
        )


def test_probe_finds_a_server_that_does_not_repeat_itself(server, sequences):
    def change(entries):
        scale = 1 + len(server.requests) / 10
        return [e and {t: {"logprob": v["logprob"] * scale} for t, v in e.items()} for e in entries]

    server.change = change
    with pytest.raises(TeacherError, match="same requests differently.*prefix-caching"):
        ServedTeacher(server.url, top_k=K, parallel=1).probe(sequences)


def _with_first(**found):
    """Change the first token of the third position."""

    def change(entries):
        token = next(iter(entries[2]))
        entries[2] = {**entries[2], found.get("id", token): {"logprob": found.get("logprob", -30.0)}}
        return entries

    return change


WRONG = {
    "shifted": (lambda entries: [None, *entries[2:], entries[1]], "the server shifted"),
    "cut": (lambda entries: entries[:-3], "not cut the prompt"),
    "cached": (lambda entries: [None, None, *entries[2:]], "no tokens with a logprob"),
    "no prompt_logprobs": (lambda entries: None, "returns no prompt_logprobs.*vLLM"),
    "null": (_with_first(logprob=None), "after token 1: a log-probability is NaN"),
    "NaN": (_with_first(logprob=math.nan), "is NaN or above 0"),
    "positive": (_with_first(logprob=0.5), "is NaN or above 0"),
    "text": (_with_first(logprob="none"), "no tokens with a logprob"),
    "id": (_with_first(id="999999"), "outside the vocabulary of .*999999"),
    "fewer": (lambda entries: [e and dict(list(e.items())[: K - 2]) for e in entries], "only 3 tokens, top_k is 5"),
    "logits": (lambda entries: [e and {t: {"logprob": -0.1} for t in e} for e in entries], "sum to more than 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers(server, model, sequences, name):
    server.change, message = WRONG[name]
    with pytest.raises(TeacherError, match=message):
        ServedTeacher(server.url, top_k=K, vocab_size=model.config.vocab_size).distributions(sequences[:1])


@pytest.mark.parametrize("cut", [False, True])
def test_server_that_adds_a_bos(server, sequences, cut):
    server.read = lambda prompt: [0, *prompt][: len(prompt) if cut else None]
    with pytest.raises(TeacherError, match="BOS"):
        ServedTeacher(server.url, top_k=K).distributions(sequences[:1])


def test_minus_infinity_as_vllm_writes_it(server, sequences):
    server.change = lambda entries: [None, *({**e, list(e)[-1]: {"logprob": -9999.0}} for e in entries[1:])]
    (top,) = ServedTeacher(server.url, top_k=K - 1).distributions(sequences[:1])
    assert np.isfinite(top.log_probs).all() and not np.isnan(top.log_tail).any()


def test_failures_that_pass_are_retried(server, sequences):
    server.failures = [(500, {"error": {"message": "busy"}}), (429, {}), (503, b"<html>")]
    assert len(ServedTeacher(server.url, top_k=K, model="m").distributions(sequences[:1])) == 1
    assert len(server.requests) == 4


MAX_MESSAGE = f"Requested prompt logprobs of {K}, which is greater than max allowed: 2"


@pytest.mark.parametrize(
    ("code", "answer", "message", "tries"),
    [
        (500, {"error": {"message": "out of memory"}}, "tried 3x: 500: out of memory", 3),
        (400, {"error": {"message": MAX_MESSAGE, "code": 400}}, f"{MAX_MESSAGE} .*--max-logprobs {K}", 1),
        (400, {"object": "error", "message": MAX_MESSAGE}, f"{MAX_MESSAGE} .*--max-logprobs {K}", 1),
        (400, {"error": "This model's maximum context length is 8 tokens."}, "is 8 tokens. .*--max-model-len", 1),
        (401, {"error": "Unauthorized"}, "401: Unauthorized .*HF_REASON_TEACHER_API_KEY", 1),
        (404, {"detail": "Not Found"}, "404: .*Not Found.*/v1", 1),
        (302, b"", "302.*Redirects are not followed", 1),
    ],
)
def test_refusals(server, sequences, code, answer, message, tries):
    server.failures = [(code, answer)] * 9
    with pytest.raises(TeacherError, match=message) as caught:
        ServedTeacher(server.url, top_k=K, model="m", retries=2, api_key="s3cret").distributions(sequences[:1])
    assert len(server.requests) == tries
    assert server.url in str(caught.value) and "s3cret" not in str(caught.value)


def test_no_json_and_no_model(server, sequences):
    server.failures = [(200, b"<html>")]
    with pytest.raises(TeacherError, match="no JSON"):
        ServedTeacher(server.url, top_k=K, model="m").distributions(sequences[:1])
    server.failures = [(200, {"choices": []})]
    with pytest.raises(TeacherError, match="without choices"):
        ServedTeacher(server.url, top_k=K, model="m").distributions(sequences[:1])
    server.listed = []
    with pytest.raises(TeacherError, match="lists no model"):
        ServedTeacher(server.url, top_k=K).distributions(sequences[:1])


def test_dead_server(model, sequences):
    fake = FakeServer(model)
    fake.close()
    with pytest.raises(TeacherError, match="tried 2x: no answer .*Is the server up"):
        ServedTeacher(fake.url, top_k=K, retries=1).distributions(sequences)


def test_key_from_the_environment(server, sequences, monkeypatch):
    ServedTeacher(server.url, top_k=K, model="m").distributions(sequences[:1])
    monkeypatch.setenv(client.API_KEY_VARIABLE, "from-env\n")
    ServedTeacher(server.url, top_k=K, model="m").distributions(sequences[:1])
    ServedTeacher(server.url, top_k=K, model="m", api_key="given").distributions(sequences[:1])
    assert server.keys == [None, "Bearer from-env", "Bearer given"]


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/v1", "localhost:8000/v1", "http://", "http://a:b/v1"]
)
def test_only_http(url):
    with pytest.raises(TeacherError, match="is no URL of a server"):
        ServedTeacher(url)


def test_other_arguments(server, sequences):
    with pytest.raises(TeacherError, match="has a password in it") as caught:
        ServedTeacher("http://me:s3cret@host/v1")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(TeacherError, match="top_k and parallel of at least 1"):
        ServedTeacher(server.url, top_k=0)
    with pytest.raises(TeacherError, match="retries of at least 0"):
        ServedTeacher(server.url, retries=-1)
    with pytest.raises(TypeError, match="'k', which is called 'top_k'"):
        ServedTeacher(server.url, k=2)
    with pytest.raises(TeacherError, match="Sequence 1 has no tokens"):
        ServedTeacher(server.url, top_k=K).distributions([sequences[0], []])
    with pytest.raises(TeacherError, match="at least two tokens"):
        ServedTeacher(server.url, top_k=K).probe([sequences[0][:1]])
