"""`/`: a page to ask, watch the steps, compare and correct. It is a client of the API like any other.

Nothing of it needs a key: it holds nothing but its own text and the server's limits. What it shows of users and
models is set as text, never as HTML; the headers make the browser refuse everything else.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from hf_reason.serving.errors import ApiError

PREFIX = "/page/"
_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
HEADERS = {
    # Trusted Types: no string becomes HTML, whatever a script does
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # a newer server has a newer page
    "Cache-Control": "no-cache",
}


def is_page(path: str) -> bool:
    """Whether a path is the page or a part of it, which everybody may see."""
    return path == "/" or path.startswith(PREFIX)


def add_page_routes(app: FastAPI, settings: Mapping[str, Any]) -> None:
    """Add the routes.

    Args:
        app: The app.
        settings: What the page has to know before it may ask: the limits, and whether a key is needed.
    """
    folder = files(__package__) / "static"
    parts = {part.name: part.read_bytes() for part in folder.iterdir() if part.name.rpartition(".")[2] in _KINDS}

    def show(name: str) -> Response:
        if name not in parts:
            raise ApiError(404, "unknown_url", f"The page has no part {name[:200]!r}.")
        kind = _KINDS[name.rpartition(".")[2]]
        return Response(parts[name], headers={**HEADERS, "Content-Type": f"{kind}; charset=utf-8"})

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return show("index.html")

    @app.get(f"{PREFIX}settings.json", include_in_schema=False)
    async def limits() -> Response:
        return JSONResponse(dict(settings), headers=HEADERS)

    @app.get(f"{PREFIX}{{name}}", include_in_schema=False)
    async def part(name: str) -> Response:
        return show(name)
