"""Simulated users: they ask problems whose answers they know, and say what the answer they got was worth."""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

from hf_reason.answers.verify import answers_match

from .client import Client


@dataclass
class Count:
    """How many answers were right, wrong and corrected, or wrong alone."""

    right: int = 0
    corrected: int = 0
    wrong: int = 0

    @property
    def answers(self) -> int:
        return self.right + self.corrected + self.wrong


def is_right(answer: str, reference: str) -> bool:
    """Whether a user who expects the reference is content; not with what cannot be decided, such as other prose."""
    return answers_match(answer, reference) is True


class Crowd:
    """Users of a server.

    An answer that is right gets thumbs up. One that is not gets thumbs down, and, from some users, the steps and the
    answer that they expected.

    Args:
        client: Speaks to the server.
        model: The name that they ask for.
        num_clients: Users at once.
        correct_ratio: Fraction of the wrong answers that are corrected.
        seed: Decides which.
    """

    def __init__(self, client: Client, model: str, *, num_clients: int, correct_ratio: float, seed: int) -> None:
        self.client, self.model, self.num_clients = client, model, num_clients
        self.correct_ratio, self.seed = correct_ratio, seed

    def ask(
        self,
        problems: Sequence[tuple[str, Mapping[str, Any]]],
        done: Collection[str] = (),
        stop: Callable[[], bool] = lambda: False,
        corrects: bool = True,
    ) -> Count:
        """Each user asks one problem and gives feedback.

        Args:
            problems: User and record.
            done: Users who gave theirs before; they are left out.
            stop: Asked before each request: whether it is enough.
            corrects: Whether wrong answers are corrected.

        Raises:
            ServerError: if the server cannot be reached, or refuses.
        """
        count, lock, failed = Count(), Lock(), False

        def one(user: str, record: Mapping[str, Any]) -> None:
            nonlocal failed
            if failed or stop():
                return
            try:
                kind = self._one(user, record, corrects)
            except BaseException:
                failed = True
                raise
            with lock:
                setattr(count, kind, getattr(count, kind) + 1)

        with ThreadPoolExecutor(self.num_clients) as pool:
            work = [pool.submit(one, user, record) for user, record in problems if user not in done]
            try:
                for item in work:
                    item.result()
            except BaseException:
                failed = True
                raise
        return count

    def _one(self, user: str, record: Mapping[str, Any], corrects: bool) -> str:
        body = {"task": record["task"], "domain": record["domain"]}
        told = [{"role": "user", "content": record["context"]}]
        answer = self.client.ask(model=self.model, messages=told, user=user, **body)
        if is_right(answer["choices"][0]["message"]["content"] or "", record["answer"]):
            self.client.feedback(id=answer["id"], thumbs="up", user=user)
            return "right"
        given: dict[str, Any] = {"id": answer["id"], "thumbs": "down", "user": user}
        if corrects and random.Random(f"{self.seed}-{user}").random() < self.correct_ratio:
            given |= {"corrected_steps": list(record["steps"]), "corrected_answer": record["answer"]}
        self.client.feedback(**given)
        return "corrected" if "corrected_answer" in given else "wrong"


def drawn(records: Sequence[Mapping[str, Any]], prefix: str, count: int, seed: int) -> list[tuple[str, Any]]:
    """As many users, each with a problem drawn with replacement: their outcomes are independent of each other."""
    found = []
    for number in range(count):
        user = f"{prefix}{number}"
        found.append((user, records[random.Random(f"{seed}-{user}-problem").randrange(len(records))]))
    return found
