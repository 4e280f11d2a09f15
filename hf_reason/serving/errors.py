"""Errors in the shape of OpenAI's API, so that its clients raise the exception that they have for them."""

from dataclasses import dataclass
from typing import Any

_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


@dataclass
class ApiError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: HTTP status.
        code: What went wrong, for programs; a label of the metrics.
        message: What is wrong, where, and what would be right.
        param: The field of the request.
        retry_after: Seconds after which it may be sent again.
    """

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after: int | None = None

    def __post_init__(self) -> None:
        super().__init__(self.message)

    def body(self) -> dict[str, Any]:
        """The JSON of the response."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Of the response."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def bad_request(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """A request that cannot be answered as it is."""
    return ApiError(400, code, message, param)


def from_validation(problems: list[Any]) -> ApiError:
    """The first problem that pydantic found in a request, in one line."""
    first = problems[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    if first["type"] == "extra_forbidden":
        return bad_request(f"There is no parameter {place}.", place, "unknown_parameter")
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    text = str(first["msg"]).removeprefix("Value error, ")
    return bad_request(f"{place or 'The body'}: {text}{more}", place or None)
