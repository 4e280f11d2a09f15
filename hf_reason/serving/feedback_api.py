"""`POST /v1/feedback`: what users say about an answer, by the id of its response."""

import asyncio
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from pydantic import Field, model_validator

from .checks import check_steps
from .errors import ApiError, bad_request
from .feedback import Feedback, FeedbackError, FeedbackStore, Served, UnknownRequestError
from .judging import Judge
from .metrics import Metrics
from .preferences import Preferences
from .schema import Strict

_KINDS = ("thumbs", "corrected_answer", "corrected_steps", "comment")


class FeedbackRequest(Strict):
    """What a user says about an answer."""

    id: str = Field(min_length=1, max_length=200, description="The id of the response (chatcmpl-...).")
    choice: int = Field(0, ge=0, lt=1000, description="Which of its choices.")
    thumbs: Literal["up", "down"] | None = None
    corrected_answer: str | None = Field(None, max_length=100_000)
    corrected_steps: list[str] | None = Field(None, max_length=1000)
    comment: str | None = Field(None, max_length=100_000)
    user: str | None = Field(None, max_length=512)
    preferred_to: str | None = Field(
        None, min_length=1, max_length=200, description="The id of a response to the same question that is worse."
    )
    preferred_to_choice: int = Field(0, ge=0, lt=1000, description="Which of its choices.")

    @model_validator(mode="after")
    def _together(self) -> "FeedbackRequest":
        if self.preferred_to_choice and self.preferred_to is None:
            raise ValueError("preferred_to_choice needs preferred_to, the id of the other response")
        return self


def add_feedback_route(
    app: FastAPI, store: FeedbackStore, preferences: Preferences, metrics: Metrics, judge: Judge
) -> None:
    """Add the route. Feedback on an answer of an experiment, and a vote between its versions, are outcomes of it."""

    def known(name: str, choice: int, param: str) -> Served:
        found = store.served(name, choice)
        if found is None:
            message = f"No answer to the request {name!r} (choice {choice}) is known here."
            raise ApiError(404, "unknown_response", message, param)
        return found

    def add_vote(body: FeedbackRequest) -> int:
        chosen = known(body.id, body.choice, "id")
        rejected = known(body.preferred_to or "", body.preferred_to_choice, "preferred_to")
        user = body.user or chosen.user
        vote = preferences.add(chosen, rejected, user)
        judge.preferred(chosen, rejected, user)
        metrics.feedback.labels(chosen.model, chosen.arm, "preferred").inc()
        return vote.id

    def add(body: FeedbackRequest) -> dict[str, Any]:
        given = body.model_dump(include={*_KINDS, "user"})
        done: dict[str, Any] = {"id": body.id, "object": "feedback", "number": None}
        if body.preferred_to is not None:
            done["preference"] = add_vote(body)
            if not any(given[name] for name in _KINDS):
                return done
        stored: Feedback = store.add(body.id, choice=body.choice, **given)
        judge.said(stored, store)
        for kind in (name for name in _KINDS if given[name]):
            name = f"thumbs_{given[kind]}" if kind == "thumbs" else kind
            metrics.feedback.labels(stored.served.model, stored.served.arm, name).inc()
        if stored.corrected_steps:
            problem = f"{stored.served.context}\n{stored.served.task}"
            done["checks"] = check_steps(stored.corrected_steps, problem)
        return done | {"number": stored.id}

    @app.post("/v1/feedback", summary="Thumbs, corrections, comments and votes on an answer", status_code=201)
    async def feedback(body: FeedbackRequest) -> Response:
        try:
            return JSONResponse(await asyncio.to_thread(add, body), 201)
        except UnknownRequestError as error:
            raise ApiError(404, "unknown_response", str(error), "id") from error
        except FeedbackError as error:
            raise bad_request(str(error)) from error
