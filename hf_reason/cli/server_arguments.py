"""The arguments of commands that ask an OpenAI-compatible server for many completions."""

from dataclasses import dataclass, fields
from typing import Any

from hf_reason._options import option, parsed_option


@dataclass(kw_only=True)
class ServerArguments:
    """How a server is asked; they mean nothing for a local model."""

    parallel: int = option(8, "Server: requests at a time.")
    requests_per_minute: float | None = option(None, "Server: most requests a minute. Default: no limit.")
    tokens_per_minute: float | None = option(None, "Server: most tokens a minute. Default: no limit.")
    retries: int = option(5, "Server: further tries after 429, 5xx, a timeout or a break.")
    timeout: float = option(600.0, "Server: seconds without an answer; an answer comes when it is whole.")
    extra_body: dict[str, Any] | str | None = option(
        None, 'Server: more fields of the request, JSON: {"reasoning_effort": "high", "seed": null}; null removes one.'
    )

    def __post_init__(self) -> None:
        self.extra_body = parsed_option("extra_body", self.extra_body)
        following = getattr(super(), "__post_init__", None)
        if following is not None:
            following()


SERVER_OPTIONS = tuple(item.name for item in fields(ServerArguments))
