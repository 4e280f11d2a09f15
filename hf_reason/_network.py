"""A Hub or a server that cannot be reached or breaks off: what it said, whichever library met it.

huggingface_hub's client raises errors that are no `OSError` when a connection fails, and a `RuntimeError` when an
upload does; transformers and datasets hide both behind advice about the name.
"""

from collections.abc import Iterator

_REFUSED = (401, 403, 404)
# By name: none of these is imported for it. httpx has successors whose names begin with its own.
_REQUEST_ERRORS = (
    ("httpx", "HTTPError"),
    ("requests", "RequestException"),
    ("aiohttp", "ClientError"),  # data sets at an address
    ("huggingface_hub", "XetDownloadError"),
)


def why_unreachable(error: BaseException) -> str | None:
    """What the network did, in one line; `None` for an error without a failed request in its chain.

    A Hub that answers that there is no such repository, or that it is not for this user, was reached.
    """
    for each in chain(error):
        if not _is_of_a_request(each):
            continue
        response = getattr(each, "response", None)
        status = getattr(response, "status_code", None)
        if status in _REFUSED:
            return None
        if status is None:
            return f"{type(each).__name__}: {' '.join(str(each).split())}".rstrip(": ")
        return f"HTTP {status} {getattr(response, 'reason_phrase', '')}".rstrip()
    return None


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it was raised from or after."""
    found: BaseException | None = error
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _is_of_a_request(error: BaseException) -> bool:
    """Whether an error comes from an HTTP library, or from the Hub's own protocol for large files."""
    return any(
        base.__module__.startswith(library) and base.__name__ == name
        for base in type(error).__mro__
        for library, name in _REQUEST_ERRORS
    )
