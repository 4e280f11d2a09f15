"""Structured logs: one JSON object a line, with the request's id, and without its text unless asked."""

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Any

_REQUEST: ContextVar[str] = ContextVar("hf_reason_request", default="")
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}
# Fields of `log_event` that hold what a user or a model wrote.
TEXT_FIELDS = frozenset(
    ("prompt", "messages", "context", "task", "thought", "reasoning", "steps", "answer", "content", "text", "comment")
)


@contextmanager
def request_id(name: str) -> Iterator[None]:
    """Everything that is logged inside carries this request id; asyncio tasks that start inside inherit it."""
    token = _REQUEST.set(name)
    try:
        yield
    finally:
        _REQUEST.reset(token)


def current_request() -> str:
    """The id of the request that runs here; empty outside one."""
    return _REQUEST.get()


class JsonFormatter(logging.Formatter):
    """A log record as a line of JSON: `time` (UTC), `level`, `logger`, `event`, `request_id`, and its `extra` fields.

    Args:
        texts: Also write `TEXT_FIELDS`, the message of an exception and its traceback, which may quote a request. By
            default a text is its length (`prompt_length`), and an exception its type and the line that raised it.
    """

    def __init__(self, texts: bool = False) -> None:
        super().__init__()
        self.texts = texts

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if name := _REQUEST.get():
            line["request_id"] = name
        for key, value in vars(record).items():
            if key in _OWN or key.startswith("_"):
                continue
            if key in TEXT_FIELDS and not self.texts:
                line[f"{key}_length"] = len(value) if hasattr(value, "__len__") else None
            else:
                line[key] = value
        if record.exc_info and record.exc_info[0] is not None:
            line |= self._exception(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)  # a line end inside a text is escaped

    def _exception(self, info: Any) -> dict[str, Any]:
        kind, error, trace = info
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
        found: dict[str, Any] = {"error": kind.__name__, "error_at": where}
        return found | ({"error_message": str(error), "traceback": self.formatException(info)} if self.texts else {})


def log_to(stream: IO[str] | None = None, *, texts: bool = False, level: int | str = "INFO") -> logging.Handler:
    """Log as JSON lines to a stream (standard error by default), for this package and uvicorn; returns the handler.

    uvicorn's access log is switched off: it repeats what the app logs for each request, without its id.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(texts))
    for name in ("hf_reason", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler] if name != "uvicorn.error" else []
        logger.setLevel(level)
        logger.propagate = name == "uvicorn.error"
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False
    return handler


def log_event(logger: logging.Logger, event: str, fields: Mapping[str, Any], level: int = logging.INFO) -> None:
    """Log an event with fields. Texts of requests go under a name of `TEXT_FIELDS`.

    Raises:
        ValueError: for a field that a log record has already (`name`, `args`, ...).
    """
    if taken := sorted(_OWN & set(fields)):
        raise ValueError(f"{', '.join(taken)}: a log record has fields of these names. Rename them.")
    logger.log(level, "%s", event, extra=dict(fields))
