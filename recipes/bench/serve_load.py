"""Servers under load, for `bench_serve.py`: how they are started, clients that time streamed answers, memory."""

import http.client
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes:
        url: Address, without `/v1`.
        model: Name of the model in requests.
        pid: Gives the process that serves now; `None` for a server of somebody else.
        path: Behind the address.
    """

    url: str
    model: str
    pid: Callable[[], int | None]
    path: str = "/v1/chat/completions"

    def memory_mb(self) -> float:
        """Resident memory of the server and its children, in MB of 1e6 bytes."""
        import psutil

        number = self.pid()
        if number is None:
            return float("nan")
        try:
            process = psutil.Process(number)
            return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)]) / 1e6
        except psutil.NoSuchProcess:
            return float("nan")


@contextmanager
def ours(model: str, folder: Path, threads: int, **options: Any) -> Iterator[Running]:
    """`hf-reason serve`, started again when it is killed."""
    from hf_reason.cli.circling.server import OwnServer
    from hf_reason.cli.serve import ServeArguments
    from hf_reason.cli.stages.process import only_one

    name = Path(model.rstrip("/")).name
    settings = {"port": 0, "output_dir": str(folder / "served"), **options}
    with only_one(folder) as lock, environment(threads):
        plain = {key: settings[key] for key in ("port", "output_dir")}
        server = OwnServer(ServeArguments([model], **plain), settings, folder, lock)
        try:
            server.serve([(name, model)])
            yield Running(server.url, name, lambda: server.pid)
        finally:
            server.close()


@contextmanager
def transformers_serve(model: str, folder: Path, threads: int, port: int, words: Sequence[str]) -> Iterator[Running]:
    """`transformers serve` with the model preloaded."""
    program = Path(sys.executable).with_name("transformers")
    command = [str(program), "serve", model, "--host", "127.0.0.1", "--port", str(port), *words]
    folder.mkdir(parents=True, exist_ok=True)
    with environment(threads), open(folder / "serve.log", "a", encoding="utf-8") as log:
        # a session of its own, as our server has: the scheduler weighs sessions against each other
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 600
        while not is_healthy(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{' '.join(command)} did not start: see {folder / 'serve.log'}.")
            time.sleep(0.2)
        yield Running(url, model, lambda: process.pid)
    finally:
        stop(process, 20)


def stop(process: "subprocess.Popen[Any]", seconds: float) -> None:
    """End a process, by force if it is still there after so many seconds."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def environment(threads: int) -> Iterator[None]:
    """What servers that are started inside inherit: the number of torch's threads, and no way to a Hub."""
    values = {"HF_HUB_OFFLINE": "1", **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def is_healthy(url: str) -> bool:
    """Whether `/health` answers."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@dataclass
class Answer:
    """A streamed answer.

    Attributes:
        begun: When the request was sent (`time.perf_counter`).
        first: Seconds until the first text, of thought or answer.
        seconds: Until its end.
        tokens: Of thought and answer, by the server's `usage`.
        error: Why it failed; empty if it did not.
    """

    begun: float
    first: float = 0.0
    seconds: float = 0.0
    tokens: int = 0
    error: str = ""


def ask(server: Running, question: str, max_tokens: int, timeout: float = 600.0, **extra: Any) -> Answer:
    """One question, streamed, greedy, at most `max_tokens` of thought and answer together."""
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0,
        "max_tokens": max_tokens,
        **extra,
    }
    place = urlsplit(server.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=timeout)
    answer = Answer(time.perf_counter())
    try:
        connection.request("POST", server.path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            answer.error = f"status {response.status}: {response.read(300).decode('utf-8', 'replace')}"
            return answer
        ended = _read(response, answer, question)
        if not ended or not answer.tokens:
            answer.error = answer.error or "the stream broke off"
    except (OSError, http.client.HTTPException, ValueError) as error:
        answer.error = f"{type(error).__name__}: {error}"
    finally:
        connection.close()
        answer.seconds = time.perf_counter() - answer.begun
    return answer


def _read(response: http.client.HTTPResponse, answer: Answer, question: str) -> bool:
    """Read the events; whether the answer came to its end."""
    ended = False
    while line := response.readline():
        if not line.startswith(b"data: "):
            continue
        data = line[6:].strip()
        if data == b"[DONE]":
            return True
        chunk = json.loads(data)
        if "error" in chunk:
            answer.error = str(chunk["error"])[:300]
            return False
        for choice in chunk.get("choices", ()):
            delta = choice.get("delta") or {}
            text = delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning")
            # `transformers serve` sends the prompt first, before it has generated anything
            if text and not answer.first and question not in text:
                answer.first = time.perf_counter() - answer.begun
            ended = ended or choice.get("finish_reason") is not None
        answer.tokens = (chunk.get("usage") or {}).get("completion_tokens", answer.tokens)
    return ended  # `transformers serve` sends no [DONE]


@dataclass
class Load:
    """What clients got.

    Attributes:
        answers: In the order in which they ended.
        seconds: From the first request to the last answer.
        memory_mb: Most resident memory of the server that was seen.
    """

    answers: list[Answer] = field(default_factory=list)
    seconds: float = 0.0
    memory_mb: float = 0.0

    def figures(self) -> dict[str, float]:
        """Rates, and percentiles of times in seconds."""
        good = [answer for answer in self.answers if not answer.error]
        tokens = sum(answer.tokens for answer in good)
        return {
            "requests": len(good) / self.seconds,
            "tokens": tokens / self.seconds,
            "first_p50": percentile([answer.first for answer in good], 50),
            "first_p95": percentile([answer.first for answer in good], 95),
            "latency_p50": percentile([answer.seconds for answer in good], 50),
            "latency_p95": percentile([answer.seconds for answer in good], 95),
            "mean_tokens": tokens / max(len(good), 1),
            "failed": len(self.answers) - len(good),
            "memory_mb": self.memory_mb,
        }


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least this many percent of the values do not exceed; NaN without values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__int__() - 1)]


def run_load(
    server: Running,
    questions: Iterator[str],
    clients: int,
    max_tokens: int,
    requests: int | None = None,
    seconds: float | None = None,
    pause: float = 0.0,
    **extra: Any,
) -> Load:
    """Clients that each ask one question after the other.

    Args:
        server: Whom.
        questions: Are shared by the clients.
        clients: How many.
        max_tokens: Of an answer.
        requests: How many together; `None`: until `seconds` have passed.
        seconds: After which no further request is sent.
        pause: Seconds that a client waits between an answer and its next question.
        **extra: More fields of the request.
    """
    load, lock, numbers = Load(), threading.Lock(), itertools.count()
    begun = time.perf_counter()
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            with lock:
                number, question = next(numbers), next(questions)
            if requests is not None and number >= requests:
                return
            if seconds is not None and time.perf_counter() - begun > seconds:
                return
            answer = ask(server, question, max_tokens, **extra)
            with lock:
                load.answers.append(answer)
            stop.wait(max(pause, 0.05) if answer.error else pause)  # a client that failed waits before it asks again

    threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            load.memory_mb = max(load.memory_mb, server.memory_mb() or 0.0)
            for thread in threads:
                thread.join(0.5 / len(threads))
    finally:
        stop.set()
    load.seconds = time.perf_counter() - begun
    return load


def questions_from(path: str | None, seed: int) -> Iterator[str]:
    """Problems without end: those of a file in turn, or generated ones, each of which is new."""
    if path is not None:
        from hf_reason.data import read_evaluation_records

        rows: Sequence[Mapping[str, Any]] = list(read_evaluation_records([path]))
        yield from itertools.cycle(str(row["context"]) for row in rows)
        return
    from hf_reason.data.synthetic.word_problems import generate_word_problems

    for number in itertools.count():
        for row in generate_word_problems(200, seed=seed + number):
            yield row["context"]
