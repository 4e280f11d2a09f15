"""The ASGI app: OpenAI's chat API over an engine."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from hf_reason.version import __version__

from .access import Access
from .cache import NoCache, ResultCache
from .chat import Chat
from .engines.base import Engine
from .errors import ApiError, from_validation
from .experiments import Experiments
from .feedback import FeedbackStore
from .keys import ApiKeys
from .metrics import Metrics
from .page.routes import add_page_routes
from .preferences import Preferences
from .schema import ChatRequest
from .settings import ServeSettings

_log = logging.getLogger(__name__)
T = TypeVar("T")
_CLOSED_BY_CLIENT = 499


def create_app(
    engine: Engine,
    settings: ServeSettings | None = None,
    *,
    keys: ApiKeys | None = None,
    cache: ResultCache | None = None,
    metrics: Metrics | None = None,
    feedback: FeedbackStore | None = None,
    experiments: Experiments | None = None,
) -> Any:
    """The app; give it to any ASGI server.

    Args:
        engine: Generates chains; closed when the app shuts down.
        settings: What is allowed.
        keys: API keys; none lets everybody in.
        cache: Of results; none by default.
        metrics: Of `/metrics`.
        feedback: Where feedback goes; `None` leaves `/v1/feedback` out.
        experiments: Which version of a model answers whom; outcomes come from feedback.
    """
    settings, metrics, cache = settings or ServeSettings(), metrics or Metrics(), cache or NoCache()
    chat = Chat(engine, settings, cache, metrics, feedback, experiments)
    preferences = None if feedback is None else Preferences(feedback.path)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.close()
        cache.close()
        for store in (feedback, preferences, experiments):
            if store is not None:
                store.close()

    app = FastAPI(title="hf_reason", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    _answer_errors(app, metrics)
    _add_routes(app, chat, metrics, cache)
    if feedback is not None and preferences is not None:
        from .feedback_api import add_feedback_route

        add_feedback_route(app, feedback, preferences, metrics, chat.judge)
    limits = {"max_thought_tokens": settings.max_thought_tokens, "max_answer_tokens": settings.max_answer_tokens}
    add_page_routes(app, {**limits, "needs_key": bool(keys), "feedback": feedback is not None})
    return Access(
        app,
        keys or ApiKeys(),
        settings.max_body_bytes,
        settings.max_requests_per_minute,
        lambda code, status: metrics.failed(code, status=status),
    )


def _add_routes(app: FastAPI, chat: Chat, metrics: Metrics, cache: ResultCache) -> None:
    @app.post("/v1/chat/completions", summary="Think, then answer")
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        try:
            ticket = await chat.accept(body, request.state.client)
        except ApiError as error:
            metrics.failed(error.code, status=error.status)
            raise
        if body.stream:
            headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
            return StreamingResponse(chat.stream(ticket), media_type="text/event-stream", headers=headers)
        done = await _unless_gone(request, chat.complete(ticket))
        return Response(status_code=_CLOSED_BY_CLIENT) if done is None else JSONResponse(done)

    @app.get("/v1/models", summary="The models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [_model(card) for card in chat.engine.models()]})

    @app.get("/v1/models/{name:path}", summary="A model")
    async def model(name: str) -> Response:
        found = next((card for card in chat.engine.models() if card.name == name), None)
        if found is None:
            raise ApiError(404, "model_not_found", f"There is no model {name[:200]!r}.", "model")
        return JSONResponse(_model(found))

    @app.get("/health", summary="Whether the server can answer")
    async def health() -> Response:
        problem = chat.engine.problem()
        if problem is not None:
            raise ApiError(503, "unavailable", problem, retry_after=5)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", summary="For Prometheus")
    async def show_metrics() -> Response:
        load, stats = chat.engine.load(), await asyncio.to_thread(cache.stats)
        metrics.queue.set(load.waiting)
        metrics.cache_entries.set(stats.entries or 0)
        metrics.cache_bytes.set(stats.bytes or 0)
        content, kind = metrics.render()
        return Response(content, headers={"Content-Type": kind})


def _model(card: Any) -> dict[str, Any]:
    shown = {"id": card.name, "object": "model", "created": card.created, "owned_by": "hf_reason"}
    return shown | ({"parent": card.base} if card.base else {})


async def _unless_gone(request: Request, work: Awaitable[T]) -> T | None:
    """The result of the work, which is cancelled when the client leaves; then `None`."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        watch.cancel()


def _answer_errors(app: FastAPI, metrics: Metrics) -> None:
    def answer(error: ApiError) -> Response:
        return JSONResponse(error.body(), error.status, error.headers())

    def handler(kind: Any) -> Callable[[Callable[[Any], Response]], None]:
        def add(make: Callable[[Any], Response]) -> None:
            async def handle(request: Request, error: Any) -> Response:
                return make(error)

            app.add_exception_handler(kind, handle)

        return add

    handler(ApiError)(answer)

    @handler(RequestValidationError)
    def _(error: RequestValidationError) -> Response:
        found = from_validation(list(error.errors()))
        metrics.failed(found.code, status=found.status)
        return answer(found)

    @handler(HTTPException)
    def _(error: HTTPException) -> Response:  # an unknown path or method, or a body that is no JSON
        codes = {404: "unknown_url", 405: "method_not_allowed", 400: "invalid_json"}
        code = codes.get(error.status_code, "http_error")
        metrics.failed(code, status=error.status_code)
        return answer(ApiError(error.status_code, code, f"{error.detail}."))

    @handler(Exception)
    def _(error: Exception) -> Response:
        metrics.failed("internal_error")
        return answer(ApiError(500, "internal_error", "The server failed on this request. Its log says why."))
