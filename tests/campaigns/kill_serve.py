"""A server that is killed under load, and started again by the same command."""

import contextlib
import http.client
import json
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kills import SEED, Forge

_CLIENTS = 4
_LISTENS = re.compile(r"Serving base at http://127\.0\.0\.1:(\d+)/v1")
# Between a start and its kill: the start itself, and requests.
_LONGEST = 3.0


class ServeCampaign:
    """Kills of a server.

    Args:
        forge: Runs it.
        folder: Of its own.
        model: Folder of a model.
        questions: What the clients ask, greedily.
    """

    def __init__(self, forge: Forge, folder: Path, model: str, questions: Sequence[str]) -> None:
        self.forge, self.folder, self.questions = forge, folder, questions
        self.words = ["serve", "--model_name_or_path", f"base={model}", "--port", "0", "--use_cpu"]
        self.words += ["--output_dir", "out"]
        # what the clients were told: texts by question, ids of answers, comments that were accepted
        self.texts: dict[str, set[str]] = {question: set() for question in questions}
        self.ids: list[str] = []
        self.comments: set[str] = set()
        self._lock = threading.Lock()

    def run(self, kills: int) -> None:
        """Kill it so often, then ask it once more and look into its files."""
        draw = random.Random(f"{SEED} serve")
        for number in range(kills):
            with self._started() as pid, self._load(number):
                time.sleep(draw.uniform(0, _LONGEST))
                self.forge.kill(pid)
        with self._started() as pid:
            port = self._port(pid)
            for number, question in enumerate(self.questions):
                self._ask(port, question, f"last-{number}")
            for name in self.ids:  # of servers that are no more
                status, _ = _post(port, "/v1/feedback", {"id": name, "comment": "later"})
                assert status == 201, f"an answer that was given is not known: {status}"
            self.forge.kill(pid)
        assert all(len(texts) == 1 for texts in self.texts.values()), "another answer after a kill"
        self._assert_kept()

    @contextlib.contextmanager
    def _started(self) -> Iterator[int]:
        (self.folder / "log.txt").unlink(missing_ok=True)
        pid = self.forge.start(self.words, self.folder)
        try:
            yield pid
        finally:
            self.forge.kill(pid)

    def _port(self, pid: int) -> int | None:
        """Where it listens; `None` if it ended before it did."""
        log = self.folder / "log.txt"
        while True:
            text = log.read_text("utf-8") if log.is_file() else ""
            if found := _LISTENS.search(text):
                return int(found.group(1))
            code = self.forge.ask("code", pid)
            assert code in (None, -9), text[-3000:]
            if code is not None:
                return None
            time.sleep(0.02)

    @contextlib.contextmanager
    def _load(self, row: int) -> Iterator[None]:
        done = threading.Event()
        threads = [threading.Thread(target=self._client, args=(f"{row}-{n}", done)) for n in range(_CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            done.set()
            for thread in threads:
                thread.join(60)

    def _client(self, name: str, done: threading.Event) -> None:
        number = 0
        while not done.is_set():
            log = self.folder / "log.txt"
            found = _LISTENS.search(log.read_text("utf-8")) if log.is_file() else None
            if found is None:
                time.sleep(0.02)
                continue
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                self._ask(int(found.group(1)), self.questions[number % len(self.questions)], f"{name}-{number}")
            number += 1

    def _ask(self, port: int | None, question: str, comment: str) -> None:
        body = {"messages": [{"role": "user", "content": question}], "max_tokens": 24, "temperature": 0}
        status, answer = _post(port, "/v1/chat/completions", body)
        assert status == 200, answer
        with self._lock:
            self.texts[question].add(json.dumps(answer["choices"][0]["message"], sort_keys=True))
            self.ids.append(answer["id"])
        status, _ = _post(port, "/v1/feedback", {"id": answer["id"], "comment": comment})
        assert status == 201
        with self._lock:
            self.comments.add(comment)

    def _assert_kept(self) -> None:
        from hf_reason.serving.feedback import FeedbackStore

        store = FeedbackStore(self.folder / "out" / "feedback.db")
        assert self.comments <= {each.comment for each in store}, "feedback that was accepted is lost"
        assert store._database.read("PRAGMA integrity_check") == [("ok",)]
        assert not list((self.folder / "out").glob("*.damaged"))


def _post(port: int | None, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    assert port is not None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
