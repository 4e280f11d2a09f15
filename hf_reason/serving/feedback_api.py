"""`POST /v1/feedback`: what users say about an answer, by the id of its response."""

import asyncio
from typing import Literal

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from .errors import ApiError, bad_request
from .experiments import Experiments
from .feedback import Feedback, FeedbackError, FeedbackStore, UnknownRequestError
from .metrics import Metrics
from .outcomes import outcome_of_feedback
from .schema import Strict


class FeedbackRequest(Strict):
    """What a user says about an answer."""

    id: str = Field(min_length=1, max_length=200, description="The id of the response (chatcmpl-...).")
    choice: int = Field(0, ge=0, lt=1000, description="Which of its choices.")
    thumbs: Literal["up", "down"] | None = None
    corrected_answer: str | None = Field(None, max_length=100_000)
    corrected_steps: list[str] | None = Field(None, max_length=1000)
    comment: str | None = Field(None, max_length=100_000)
    user: str | None = Field(None, max_length=512)


def add_feedback_route(
    app: FastAPI, store: FeedbackStore, metrics: Metrics, experiments: Experiments | None = None
) -> None:
    """Add the route. Feedback on an answer of an experiment is an outcome of it."""

    def record(given: Feedback) -> None:
        served, outcome = given.served, outcome_of_feedback(given)
        name, _, arm = served.arm.rpartition("/")
        if experiments is None or not name or outcome is None:
            return
        # who asked was assigned to the arm, whoever says what the answer was worth
        asked = store.served(served.request_id, served.choice)
        unit = (asked.user if asked is not None else served.user) or served.request_id
        if experiments.record(name, unit, outcome):
            metrics.outcomes.labels(name, arm, str(outcome)).inc()

    @app.post("/v1/feedback", summary="Thumbs, corrections and comments on an answer", status_code=201)
    async def feedback(body: FeedbackRequest) -> Response:
        given = body.model_dump(exclude={"id", "choice"})
        try:
            stored: Feedback = await asyncio.to_thread(store.add, body.id, choice=body.choice, **given)
        except UnknownRequestError as error:
            raise ApiError(404, "unknown_response", str(error), "id") from error
        except FeedbackError as error:
            raise bad_request(str(error)) from error
        await asyncio.to_thread(record, stored)
        kinds = [name for name in ("thumbs", "corrected_answer", "corrected_steps", "comment") if given[name]]
        for kind in kinds:
            name = f"thumbs_{given[kind]}" if kind == "thumbs" else kind
            metrics.feedback.labels(stored.served.model, stored.served.arm, name).inc()
        return JSONResponse({"id": body.id, "object": "feedback", "number": stored.id}, 201)
