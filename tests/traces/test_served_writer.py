"""A teacher behind a server that fails as real ones do."""

import time

import pytest
from trace_server import BREAK, FakeTeacher

from hf_reason.teachers import client
from hf_reason.teachers.errors import TeacherError
from hf_reason.traces import RateLimit, ServedWriter, TraceSettings, served
from hf_reason.traces.reading import verified
from hf_reason.traces.settings import Job

TOO_LONG = (400, {"error": {"message": "maximum context length is 8 tokens"}})


@pytest.fixture
def server(records, monkeypatch):
    monkeypatch.setattr(client, "_BACKOFF", 0.001)
    found = FakeTeacher(records)
    yield found
    found.close()


def _jobs(records, count, seeds=4):
    return [Job(record, sample, sample) for record in records[:count] for sample in range(seeds)]


def _write(server, jobs, **options):
    writer = ServedWriter(server.url, TraceSettings(max_completion_length=99), **{"parallel": 3, **options})
    return writer, [row for rows in writer.write(jobs) for row in rows]


def test_what_is_asked_and_what_comes_back(server, records):
    writer, rows = _write(server, _jobs(records, 3), extra_body={"seed": 7, "top_k": 20}, api_key="s3cret")
    assert len(rows) == 12 and writer.model == "/models/big-teacher" and set(server.keys) == {"Bearer s3cret"}
    assert all(request["seed"] == 7 and request["top_k"] == 20 for request in server.requests)
    assert server.requests[0]["max_tokens"] == 99 and server.requests[0]["temperature"] == 0.6
    assert {(row["id"], row["sample"]) for row in rows} == {(r["id"], s) for r in records[:3] for s in range(4)}


def test_the_verdicts_on_it(server, records):
    _, rows = _write(server, _jobs(records, 1), parallel=1)
    found = [verified(row, records[0], "equations") for row in rows]
    assert [(v.right, v.finished, v.correct) for v in found] == [
        *[(True, True, True), (False, True, False), (False, True, True), (False, False, False)]
    ]
    assert found[2].wrong_step == len(records[0]["steps"]) + 1 and found[0].steps == records[0]["steps"]
    assert rows[0]["prompt_tokens"] == 10


def test_texts_in_parts_and_halves_of_characters():
    parts = [{"type": "text", "text": "一共"}, {"type": "text", "text": "37\ud83d个"}, "?"]
    assert served._text(parts) == "一共37\ufffd个" and served._text(None) == ""
    assert served._text("好😀") == "好😀"


def test_null_removes_a_field(server, records):
    _, rows = _write(server, _jobs(records, 1, 1), extra_body={"temperature": None, "max_tokens": None, "user": "me"})
    assert rows and not {"temperature", "max_tokens"} & set(server.requests[0]) and server.requests[0]["user"] == "me"
    with pytest.raises(TeacherError, match="extra_body: n, stream cannot be set"):
        ServedWriter(server.url, TraceSettings(), extra_body={"n": 4, "stream": True})


def test_failures_that_pass_cost_nothing(server, records):
    server.failures = [
        (429, {"error": {"message": "slow down"}}, {"Retry-After": "0.01"}),
        (500, b"<html>oops</html>"),
        BREAK,
        (200, b'{"choices": [{"mess'),
        (200, {"choices": []}),
        (200, {"error": "overloaded"}),
        (503, {}),
        (200, {"choices": [{"message": None}]}),
    ]
    writer, rows = _write(server, _jobs(records, 5), parallel=2, retries=8)
    assert len({(row["id"], row["sample"]) for row in rows}) == len(rows) == 20 and writer.failures == {}
    assert len(server.requests) == 28


def test_retry_after_holds_all_requests_back(server, records):
    server.failures = [(429, {}, {"Retry-After": "0.2"})]
    writer = ServedWriter(server.url, TraceSettings(), parallel=1)
    begun = time.monotonic()
    assert len(list(writer.write(_jobs(records, 1, 2)))) == 2
    assert time.monotonic() - begun >= 0.2 and server.times[1] - server.times[0] >= 0.2


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({}, 0),
    ],
)
def test_how_servers_say_it(headers, seconds):
    assert client._retry_after(headers) == seconds
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    assert 95 < client._retry_after({"Retry-After": later}) <= 100


@pytest.mark.parametrize(
    ("failure", "message", "most"),
    [
        ((401, {"error": {"message": "Unauthorized"}}), "401: Unauthorized .*HF_REASON_TEACHER_API_KEY", 9),
        ((404, {"error": {"message": "no such model"}}), "404: no such model", 9),
        ((429, {"error": {"message": "You exceeded your current quota"}}), "no credit left", 9),
        ((429, {}, {"Retry-After": "7200"}), "left alone for 7200 s", 9),
        ((500, {"error": {"message": "out of memory"}}), "tried 2x: 500: out of memory", 18),
        ((200, b"<html>"), "answers no JSON", 18),
        (
            (200, {"error": {"message": "overloaded"}}),
            "tried 2x: its answer is not what was asked for.*overloaded",
            18,
        ),
        (TOO_LONG, "maximum context length", 9),
    ],
)
def test_what_fails_for_all_ends_the_run(server, records, failure, message, most):
    server.failures = [failure] * 200
    with pytest.raises(TeacherError, match=message) as caught:
        _write(server, _jobs(records, 15), retries=1, api_key="s3cret")
    assert len(server.requests) <= most and "s3cret" not in str(caught.value)


def test_a_request_that_is_refused_is_left_out_and_counted(server, records):
    server.failures = [TOO_LONG, TOO_LONG]
    writer, rows = _write(server, _jobs(records, 3), parallel=4)
    assert len(rows) == 10 and sum(writer.failures.values()) == 2
    assert "maximum context length" in next(iter(writer.failures))


def test_requests_a_minute(server, records):
    _write(server, _jobs(records, 2, 3), limit=RateLimit(requests_per_minute=1200))
    gaps = [after - before for before, after in zip(server.times, server.times[1:], strict=False)]
    assert len(gaps) == 5 and server.times[-1] - server.times[0] > 0.22


def test_no_server(records):
    with pytest.raises(TeacherError, match="no answer .*Is the server up"):
        ServedWriter("http://127.0.0.1:9/v1", TraceSettings(), retries=0)
    with pytest.raises(TeacherError, match="parallel must be at least 1"):
        ServedWriter("http://127.0.0.1:9/v1", TraceSettings(), parallel=0)
