"""What a server allows."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class ServeSettings:
    """Limits of the API.

    Attributes:
        max_thought_tokens, max_answer_tokens: Longest thought and answer, and their defaults.
        max_choices: Most chains of a request.
        max_body_bytes: Largest body of a request.
        max_queue_size: Chains that may wait; more are refused (429).
        max_requests_per_minute: For each API key, or each address without keys; `None`: no limit.
        request_timeout: Seconds after which a request fails (504).
        chunk_interval: Seconds in which the tokens of a stream are gathered into one chunk, after the first; 0: each
            token has a chunk of its own.
        isolate_keys: Whether each API key has cached results of its own.
        log_texts: Whether logs may hold what users and models wrote.
    """

    max_thought_tokens: int = 1024
    max_answer_tokens: int = 512
    max_choices: int = 16
    max_body_bytes: int = 1_000_000
    max_queue_size: int = 256
    max_requests_per_minute: int | None = None
    request_timeout: float = 600.0
    chunk_interval: float = 0.05
    isolate_keys: bool = False
    log_texts: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "chunk_interval":
                if not 0 <= value <= 10:
                    raise ValueError(f"chunk_interval is {value}; it must be from 0 to 10 seconds.")
            elif not isinstance(value, bool) and value is not None and value < 1:
                raise ValueError(f"{field.name} is {value}; it must be at least 1.")
