"""Log lines: JSON, with the request's id, and no word of a user unless asked."""

import asyncio
import io
import json
import logging

import pytest

from hf_reason.serving.logs import JsonFormatter, current_request, log_event, log_to, request_id


@pytest.fixture
def logger():
    found = logging.getLogger("hf_reason.test_serving_logs")
    found.propagate, found.level = False, logging.INFO
    yield found
    found.handlers.clear()


def lines(logger: logging.Logger, texts: bool = False) -> io.StringIO:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(texts))
    logger.handlers = [handler]
    return stream


def test_texts_are_lengths_unless_asked(logger):
    stream = lines(logger)
    with request_id("req-1"):
        log_event(logger, "answered", {"prompt": "秘密\n第二行", "latency": 0.5, "steps": ["a", "b"]})
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert "秘密" not in line
    assert (found["event"], found["request_id"], found["level"]) == ("answered", "req-1", "info")
    assert (found["prompt_length"], found["steps_length"], found["latency"]) == (6, 2, 0.5)
    assert found["time"].endswith("+00:00")

    stream = lines(logger, texts=True)
    log_event(logger, "answered", {"prompt": "秘密\n第二行"})
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["prompt"] == "秘密\n第二行" and "request_id" not in json.loads(line)


def test_an_exception_does_not_quote_the_request(logger):
    for texts in (False, True):
        stream = lines(logger, texts)
        try:
            raise ValueError("cannot read 秘密")
        except ValueError:
            logger.exception("failed")
        found = json.loads(stream.getvalue())
        assert found["error"] == "ValueError" and "test_serving_logs.py:" in found["error_at"]
        assert ("秘密" in stream.getvalue()) is texts and ("traceback" in found) is texts


def test_requests_that_run_at_once_keep_their_ids():
    seen = {}

    async def request(name: str) -> None:
        with request_id(name):
            await asyncio.sleep(0)

            async def part() -> None:
                await asyncio.sleep(0)
                seen[name] = current_request()

            await asyncio.create_task(part())

    async def main() -> None:
        await asyncio.gather(*(request(str(number)) for number in range(5)))

    asyncio.run(main())
    assert seen == {str(number): str(number) for number in range(5)} and current_request() == ""


def test_a_field_that_a_record_has_is_refused(logger):
    with pytest.raises(ValueError, match="args, name"):
        log_event(logger, "answered", {"name": "x", "args": 1, "fine": 2})


def test_uvicorn_logs_the_same_way_and_no_access_lines():
    names = ("hf_reason", "uvicorn", "uvicorn.error", "uvicorn.access")
    loggers = {name: logging.getLogger(name) for name in names}
    before = {name: (found.handlers, found.propagate, found.level) for name, found in loggers.items()}
    stream = io.StringIO()
    try:
        log_to(stream)
        logging.getLogger("hf_reason.serving").info("one")
        logging.getLogger("uvicorn.error").info("two")
        logging.getLogger("uvicorn.access").info("GET /v1/models")
    finally:
        for name, (handlers, propagate, level) in before.items():
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["one", "two"]
