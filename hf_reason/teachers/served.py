"""A teacher behind an OpenAI-compatible server that returns prompt log-probabilities, as vLLM does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from hf_reason._renamed import renamed
from hf_reason.losses import TopKTargets

from .base import TeacherTargets, scored
from .client import Client
from .errors import TeacherError
from .probe import probe
from .top_k import TopK, log_tail

_ROUNDING = 1e-3  # how far a log-probability may be above 0, or a sum of probabilities above 1


@renamed(k="top_k")
class ServedTeacher:
    """A model behind a server; nothing is asked of it before the first call.

    Args:
        url: Where the API begins, such as `http://127.0.0.1:8000/v1`; http or https.
        top_k: Tokens at each position. The server must allow as many: vLLM's `--max-logprobs`, 20 by default.
        model: The name that the server gives it; default: the first that the server lists.
        api_key: Sent as a bearer token; default: the environment variable `HF_REASON_TEACHER_API_KEY`, if set.
        vocab_size: The student's vocabulary; an id at or above it is an error.
        timeout: Seconds without a byte from the server that count as a failure.
        retries: Further tries after a failed connection, a 429 or a 5xx.
        parallel: Requests at a time.

    Raises:
        TeacherError: if `url` is no http or https URL, or a number is out of range.
    """

    def __init__(
        self,
        url: str,
        *,
        top_k: int = 20,
        model: str | None = None,
        api_key: str | None = None,
        vocab_size: int | None = None,
        timeout: float = 120.0,
        retries: int = 3,
        parallel: int = 8,
    ) -> None:
        if top_k < 1 or parallel < 1:
            raise TeacherError("A served teacher needs top_k and parallel of at least 1.")
        self.client = Client(url, api_key=api_key, timeout=timeout, retries=retries)
        self.url, self.top_k, self.model, self.vocab_size = self.client.url, top_k, model, vocab_size
        self.parallel = parallel

    def distributions(self, sequences: Sequence[Sequence[int]]) -> list[TopK]:
        """The teacher's k most likely tokens after each token but the last of each sequence.

        A sequence of one token has no rows, and is not sent.

        Raises:
            TeacherError: if the server cannot be reached or refuses, or if its answer lacks positions, tokens or the
                tokens that were sent, or has log-probabilities that are none.
        """
        tokens = [[int(token) for token in sequence] for sequence in sequences]
        if not all(tokens):
            raise TeacherError(f"Sequence {tokens.index([])} has no tokens.")
        if self.model is None:
            listed = self.client.ask("/models")
            try:
                self.model = listed["data"][0]["id"]
            except (LookupError, TypeError) as error:
                raise TeacherError(f"{self.url}/models lists no model. Give the model's name.") from error
        with ThreadPoolExecutor(self.parallel) as pool:
            return list(pool.map(self._one, range(len(tokens)), tokens))

    def probe(
        self,
        sequences: Sequence[Sequence[int]],
        reference: Callable[[Sequence[Sequence[int]]], list[np.ndarray]] | None = None,
        tolerance: float = 0.02,
    ) -> dict[str, float]:
        """Check at the start that the server can teach: its answers, that it repeats itself, and which model it is.

        Args:
            sequences: A few sequences of token ids as in training, at least one of two tokens or more.
            reference: Gives the log-probabilities `(n - 1, vocabulary)` of a local copy of the teacher.
            tolerance: The largest mean KL, in nats a position, between two answers and between server and copy.

        Returns:
            `repeat`, the mean KL between two answers to the same requests, and with a `reference` `kl`, the mean
            KL(server || local) over the k tokens and all others as one event, and `largest`, the largest difference
            of a log-probability among the served tokens above 0.01.

        Raises:
            TeacherError: as `distributions` does, and if a mean KL is above `tolerance`.
        """
        return probe(self.distributions, self.url, sequences, reference, tolerance)

    def _one(self, i: int, tokens: list[int]) -> TopK:
        entries: list[Any] = [None]
        if len(tokens) > 1:
            body = {"model": self.model, "prompt": tokens, "max_tokens": 1, "temperature": 0}
            answer = self.client.ask("/completions", {**body, "prompt_logprobs": self.top_k})
            try:
                entries = answer["choices"][0].get("prompt_logprobs")
            except (LookupError, TypeError, AttributeError) as error:
                raise TeacherError(
                    f"{self.url}/completions gives an answer without choices: no completion."
                ) from error
        if not isinstance(entries, list):
            raise TeacherError(
                f"{self.url} returns no prompt_logprobs. Use one that does, such as vLLM; the OpenAI API does not."
            )
        if len(entries) != len(tokens):
            raise TeacherError(
                f"{self.url} returns {len(entries)} positions for the {len(tokens)} tokens of sequence {i}. It must "
                "not cut the prompt, add a BOS or leave out what is in its cache (--no-enable-prefix-caching)."
            )
        ids = np.empty((len(tokens) - 1, self.top_k), dtype=np.int64)
        log_probs = np.empty(ids.shape)
        for j, entry in enumerate(entries[1:]):
            try:
                ids[j], log_probs[j] = self._row(entry, tokens[j + 1])
            except _BadRow as error:
                raise TeacherError(f"{self.url}, sequence {i}, after token {j}: {error}") from error
        return TopK(ids, log_probs.astype(np.float32), log_tail(log_probs).astype(np.float32))

    def _row(self, entry: Any, actual: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            ids = np.array([int(token) for token in entry], dtype=np.int64)
            values = np.array([found["logprob"] for found in entry.values()], dtype=np.float64)  # null becomes NaN
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _BadRow("there are no tokens with a logprob. Use a server that answers as vLLM does.") from error
        if not (values <= _ROUNDING).all():
            raise _BadRow("a log-probability is NaN or above 0. Check the served model's weights and its precision.")
        if ids.min(initial=0) < 0 or (self.vocab_size is not None and ids.max(initial=0) >= self.vocab_size):
            raise _BadRow(
                f"an id is outside the vocabulary of {self.vocab_size}: {ids.max()}. Serve one with this tokenizer."
            )
        if actual not in ids:
            raise _BadRow(
                f"the next token, {actual}, is not there: the server shifted or re-tokenised the ids, or added a BOS. "
                "Use a server that reads token ids as they are and returns the prompt's own tokens, as vLLM does."
            )
        if len(ids) < self.top_k:
            raise _BadRow(f"there are only {len(ids)} tokens, top_k is {self.top_k}. Lower top_k.")
        # the token that was sent stands beside the k tokens; its rank says nothing where logits are tied
        order = np.argsort(-values, kind="stable")[: self.top_k]
        if np.exp(values[order]).sum() > 1 + _ROUNDING:
            raise _BadRow("the probabilities sum to more than 1: they are no softmax. Is --logprobs-mode logits?")
        return ids[order], values[order]


class _BadRow(ValueError):
    """What is wrong with one position; `ServedTeacher._one` says which."""


class ServedTargets:
    """`ServedTeacher` as a `Teacher`.

    Args:
        server: The client.
        vocab_size: Number of ids that teacher and student share.
    """

    def __init__(self, server: ServedTeacher, vocab_size: int) -> None:
        self.server, self.vocab_size = server, vocab_size

    @contextmanager
    def targets(self, batch: Mapping[str, torch.Tensor], *, path_consistency: bool) -> Iterator[TeacherTargets]:
        """See `Teacher.targets`; there are no similarities, since a server gives no hidden states."""
        if path_consistency:
            raise TeacherError("A served teacher gives no hidden states: set path_weight=0, or use a live teacher.")
        labels, places = batch["labels"], _sequences(batch)
        found = self.server.distributions([batch["input_ids"][row, start:end].tolist() for row, start, end in places])
        ids, log_probs, log_tail = (_scatter(found, places, labels, field) for field in TopK._fields)
        yield TeacherTargets(TopKTargets(ids, log_probs, log_tail), None)


def _sequences(batch: Mapping[str, torch.Tensor]) -> list[tuple[int, int, int]]:
    """`(row, first, end)` of every example of a padded or packed batch."""
    places = []
    for row in range(batch["input_ids"].shape[0]):
        if "attention_mask" in batch:
            length = int(batch["attention_mask"][row].sum())
            places.append((row, 0, length))
        else:
            starts = [*(batch["position_ids"][row] == 0).nonzero().flatten().tolist(), batch["input_ids"].shape[1]]
            places += [(row, start, end) for start, end in zip(starts[:-1], starts[1:], strict=True)]
    return places


def _scatter(found: list[TopK], places: list[tuple[int, int, int]], labels: torch.Tensor, field: str) -> torch.Tensor:
    """One field of the answers at the scored positions, in the batch's order."""
    first = getattr(found[0], field)
    whole = np.zeros((*labels.shape, *first.shape[1:]), dtype=first.dtype)
    for (row, start, end), answer in zip(places, found, strict=True):
        whole[row, start : end - 1] = getattr(answer, field)
    return torch.from_numpy(whole)[:, :-1].to(labels.device)[scored(labels)]
