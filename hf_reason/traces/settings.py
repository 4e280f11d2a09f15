"""What is asked of a teacher, and which of its chains are kept."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from hf_reason._files import digest

KEEP = ("all", "correct", "shortest_correct")
VERIFY_STEPS = ("none", "equations", "numbers")


@dataclass(frozen=True)
class TraceSettings:
    """How chains are sampled and chosen.

    Attributes:
        num_samples: Chains of each problem.
        temperature: 0 is greedy; `None` leaves it to a server.
        top_p: Only the likeliest tokens that together have this probability.
        seed: Of the samples.
        max_completion_length: Longest output in tokens.
        keep: `all` that were finished, those that are `correct`, or of each problem the `shortest_correct`.
        verify_steps: What makes a step wrong: `none`; `equations` that do not hold; also `numbers` that come from
            nowhere (`hf_reason.rewards.step_judge`).
        prune_steps: Leave out steps that nothing needs (`hf_reason.traces.pruning`).
        pairs: Most pairs of a right and a wrong chain of each problem.

    Raises:
        ValueError: for a value out of range.
    """

    num_samples: int = 4
    temperature: float | None = 0.6
    top_p: float = 1.0
    seed: int = 0
    max_completion_length: int = 4096
    keep: str = "correct"
    verify_steps: str = "equations"
    prune_steps: bool = False
    pairs: int = 0

    def __post_init__(self) -> None:
        for name in ("num_samples", "max_completion_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.pairs < 0:
            raise ValueError(f"pairs must not be negative, got {self.pairs}.")
        if self.temperature is not None and not 0 <= self.temperature <= 10:
            raise ValueError(f"temperature must be between 0 and 10, got {self.temperature}.")
        if self.num_samples > 1 and self.temperature == 0:
            raise ValueError(
                f"temperature=0 makes all num_samples={self.num_samples} chains of a problem equal. Use "
                "num_samples=1, or a temperature above 0."
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}.")
        for name, known in (("keep", KEEP), ("verify_steps", VERIFY_STEPS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        if self.pairs and self.num_samples < 2:
            raise ValueError("pairs are made of two chains of a problem: set num_samples to 2 or more.")

    def sampling(self) -> dict[str, Any]:
        """What shapes a sample; a sample that was made with the same is not asked for again."""
        names = ("temperature", "top_p", "seed", "max_completion_length")
        return {name: getattr(self, name) for name in names}

    def seed_of(self, problem: str, sample: int) -> int:
        """The seed of a sample (31 bits, which every server accepts): its problem and its number alone decide."""
        return int(digest(f"{self.seed}/{problem}/{sample}"), 16) & 0x7FFFFFFF


class Job(NamedTuple):
    """A sample that is to be made: the problem's record, the number of the sample, and its seed."""

    record: Any
    sample: int
    seed: int


def sample_row(job: Job, content: str, **more: Any) -> dict[str, Any]:
    """A row of the journal.

    Args:
        job: What was asked.
        content: What was written, without what `thought` has.
        **more: `thought` (text or `None`), `ended` (whether the teacher ended by itself), `forced` (whether a budget
            closed its thought), `prompt_tokens`, `completion_tokens`.
    """
    return {"id": job.record["id"], "sample": job.sample, "content": content, **more}
