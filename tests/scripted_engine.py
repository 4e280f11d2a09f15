"""An engine that writes what a test has written, piece by piece."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping

from hf_reason.serving.engines.base import Accepted, End, Job, Load, ModelCard, Piece

Script = tuple[list[str], str]


class ScriptedEngine:
    """`Engine` whose chains are given: the steps and the answer of each model, or a function of the question.

    A character is a token. A thought ends with the last step that fits its budget.

    Attributes:
        jobs: Everything that was asked, in order.
    """

    def __init__(
        self, scripts: Mapping[str, Script | Callable[[str], Script]], *, delay: float = 0.0, size: int = 5
    ) -> None:
        self.scripts, self.delay, self.size = scripts, delay, size
        self.jobs: list[Job] = []

    def models(self) -> list[ModelCard]:
        return [ModelCard(name, 1, revision=f"r-{name}") for name in self.scripts]

    def check(self, job: Job) -> Accepted:
        self.jobs.append(job)
        return Accepted(job, ModelCard(job.model, 1, revision=f"r-{job.model}"), (1, 2), {}, False)

    async def stream(self, accepted: Accepted) -> AsyncGenerator[Piece]:
        job = accepted.job
        script = self.scripts[job.model]
        steps, answer = script(job.prompt.messages[-1]["content"]) if callable(script) else script
        kept = [step for at, step in enumerate(steps) if len("\n".join(steps[: at + 1])) <= job.budget.thought]
        thought = "\n".join(f"步骤{number}:{step}" for number, step in enumerate(kept, 1))
        for start in range(0, len(thought), self.size):
            await asyncio.sleep(self.delay)
            yield Piece(thought=thought[start : start + self.size])
        if job.budget.thought:
            yield Piece(steps=tuple(kept))
        for start in range(0, len(answer), self.size):
            await asyncio.sleep(self.delay)
            yield Piece(answer=answer[start : start + self.size])
        closed_by = ("model" if kept == steps else "budget") if job.budget.thought else ""
        yield Piece(end=End("stop", closed_by, 2, len(thought), len(answer)))

    def problem(self) -> str | None:
        return None

    def load(self) -> Load:
        return Load()

    async def close(self) -> None:
        pass
