"""Self-consistency: the answer that most of several sampled chains agree on (Wang et al. 2023, arXiv 2203.11171)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hf_reason.answers.verify import answers_match


@dataclass(frozen=True)
class Vote:
    """One of the answers that were given.

    Attributes:
        answer: As the first of its chains wrote it.
        count: Chains that gave it.
        ratio: `count` / all chains, those without an answer included.
        chains: Their numbers.
    """

    answer: str
    count: int
    ratio: float
    chains: tuple[int, ...]

    def __getattr__(self, name: str) -> Any:
        if name == "share":
            raise AttributeError("A vote has no 'share': it is called 'ratio' since version 0.2.")
        raise AttributeError(f"A vote has no {name!r}.")


def count_votes(answers: Sequence[str]) -> list[Vote]:
    """The different answers, the winner first.

    Two answers are the same if `hf_reason.answers.verify.answers_match` says so of either against the other (12元 and
    12.0元, 1/2 and 50%); each is compared with the first of every group, in order. An empty answer is no vote. Of
    equally many votes the answer that was given first wins.
    """
    groups: list[list[int]] = []
    for number, answer in enumerate(answers):
        if not answer.strip():
            continue
        group = next((group for group in groups if _same(answer, answers[group[0]])), None)
        if group is None:
            groups.append([number])
        else:
            group.append(number)
    groups.sort(key=lambda group: -len(group))  # stable: the earlier of two equal groups stays in front
    return [Vote(answers[group[0]], len(group), len(group) / len(answers), tuple(group)) for group in groups]


def elect(answers: Sequence[str]) -> int:
    """The number of the first chain that gave the most frequent answer; 0 if no chain gave an answer."""
    votes = count_votes(answers)
    return votes[0].chains[0] if votes else 0


def check_voting(vote: bool, num_samples: int) -> None:
    """Refuse a vote of one.

    Raises:
        ValueError: if `vote` is set with a single sample.
    """
    if vote and num_samples < 2:
        raise ValueError(f"vote=True needs several samples, and num_samples is {num_samples}. Set it to 5, say.")


def _same(answer: str, other: str) -> bool:
    return bool(answers_match(answer, other) or answers_match(other, answer))
