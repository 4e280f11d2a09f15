"""Tokens of a chain -> pieces of its thought and its answer, as soon as their text is certain."""

import re

from hf_reason.generation.batching import decode_ids
from hf_reason.generation.live import LiveChain
from hf_reason.text.render import CLOSE_TAG, OPEN_TAG, parse, unescape

from .base import End, Piece, TokenLogprob

# The end of a text that may become a tag, or a step label with the blank that protects it: it waits for more.
_UNSURE = re.compile(r"<\\*/?(?:t(?:h(?:i(?:n(?:k)?)?)?)?)?\Z|(?:\A|(?<=\n)) +(?:步(?:[骤驟]\d*)?)?\Z")
_REPLACEMENT = "\ufffd"
# Tokens whose text is decoded together; longer runs would make a chain's cost quadratic in its length.
_WINDOW = 24
# Tokens of one character, and a few more: what is no character by then never becomes one.
_LONGEST_CHARACTER = 8


class Decoder:
    """Text of tokens that come one by one; what is not a whole character yet waits."""

    def __init__(self, tokenizer: object) -> None:
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.given = 0  # tokens at the front of `ids` whose text has been given

    def push(self, token: int) -> str:
        """The text that the token completes."""
        self.ids.append(token)
        return self._take(final=False)

    def rest(self) -> str:
        """What is left, whole characters or not."""
        return self._take(final=True)

    def _take(self, final: bool) -> str:
        known = self._text(self.ids[: self.given])
        text = self._text(self.ids)
        waits = text.endswith(_REPLACEMENT) and len(self.ids) - self.given < _LONGEST_CHARACTER
        if not final and (waits or not text.startswith(known)):
            return ""
        new = text[len(known) :]
        self.ids = self.ids[-_WINDOW // 2 :] if len(self.ids) > _WINDOW else self.ids
        self.given = len(self.ids)
        return new

    def _text(self, ids: list[int]) -> str:
        return decode_ids(self.tokenizer, ids) if ids else ""  # type: ignore[arg-type]


class Writer:
    """Follows one chain.

    The thought's text is everything between the tags, with its labels; the answer's is what `parse` gives for it.

    Args:
        tokenizer: The model's.
        stop: Texts that end the answer.
        thinks: Whether the chain begins with a thought.
    """

    def __init__(self, tokenizer: object, stop: tuple[str, ...], thinks: bool) -> None:
        self.tokenizer, self.stop = tokenizer, stop
        self.decoder = Decoder(tokenizer)
        self.thinks = thinks
        self.thought = ""  # as written, the opening tag included
        self.answer = ""  # as written
        self.sent = 0  # characters of the thought, then of the answer, that have been given
        self.stopped = False
        self.noted = 0  # log-probabilities that have been given

    def push(self, chain: LiveChain, token: int, thought: bool) -> Piece | None:
        """What a new token adds; with the last, `end`, and `chain.budget.done` where a stop text ended it."""
        budget = chain.budget
        text = "" if budget.ended else self.decoder.push(token)
        steps: tuple[str, ...] | None = None
        more = ""
        if thought:
            self.thought += text
            if not budget.thinks:  # the tag is closed
                self.thought += self.decoder.rest()
                more, text = self._close()
                steps = tuple(parse(f"{OPEN_TAG}\n{self._inner(self.thought)}\n{CLOSE_TAG}\n\n").steps)
            else:
                more, text = self._thought_so_far(), ""
        if text:
            self.answer += text
        if budget.done and not thought:
            self.answer += self.decoder.rest()
        answer = self._answer_so_far(final=budget.done)
        chain.blank = not self.answer.strip()
        if self.stopped:
            budget.done = budget.ended = True
        end = self._end(chain) if budget.done else None
        logprobs = self._logprobs(chain) if not thought or end else ()
        if not (more or answer or end or logprobs) and steps is None:
            return None
        return Piece(more, answer, steps, logprobs, end)

    def _inner(self, text: str) -> str:
        return text.lstrip().removeprefix(OPEN_TAG).strip()

    def _thought_so_far(self) -> str:
        """More of the thought whose place between the tags is certain; blanks at its end are not."""
        text = self.thought.lstrip()
        if OPEN_TAG.startswith(text[: len(OPEN_TAG)]) and len(text) < len(OPEN_TAG):
            return ""
        text = text.removeprefix(OPEN_TAG).lstrip()
        if unsure := re.search(r"\s*(?:<[^>\s]{0,8})?$", text):
            text = text[: unsure.start()]
        more, self.sent = text[self.sent :], max(self.sent, len(text))
        return more

    def _close(self) -> tuple[str, str]:
        """The rest of the thought, and what follows its closing tag."""
        self.thought, _, rest = self.thought.partition(CLOSE_TAG)
        more = self._inner(self.thought)[self.sent :]
        self.sent = 0
        return more, rest

    def _answer_so_far(self, final: bool) -> str:
        """More of the answer; sets `stopped`."""
        text = self.answer.lstrip()
        hits = [place for word in self.stop if (place := text.find(word)) >= 0]
        if hits:
            text, final, self.stopped = text[: min(hits)], True, True
        elif not final:
            held = max((_overlap(text, word) for word in self.stop), default=0)
            text = text[: len(text) - held]
            if unsure := _UNSURE.search(text):
                text = text[: unsure.start()]
        text = unescape(text.strip())
        more, self.sent = text[self.sent :], max(self.sent, len(text))
        return more

    def _logprobs(self, chain: LiveChain) -> tuple[TokenLogprob, ...]:
        if chain.num_logprobs is None:
            return ()
        start = max(self.noted, chain.budget.thought)
        self.noted = len(chain.logprobs)
        found = zip(chain.ids[start:], chain.logprobs[start:], strict=True)
        return tuple(
            TokenLogprob(self._one(token), value, tuple((self._one(other), its) for other, its in top))
            for token, (value, top) in found
        )

    def _one(self, token: int) -> str:
        return decode_ids(self.tokenizer, [token])  # type: ignore[arg-type]

    def _end(self, chain: LiveChain) -> End:
        budget = chain.budget
        return End(
            reason="stop" if budget.ended else "length",
            closed_by=budget.closed_by if self.thinks else "",
            prompt_tokens=len(chain.prompt_ids),
            thought_tokens=budget.thought,
            answer_tokens=budget.answer,
        )


def _overlap(text: str, word: str) -> int:
    """Characters at the end of the text with which the word may begin."""
    return next((n for n in range(min(len(text), len(word) - 1), 0, -1) if word.startswith(text[-n:])), 0)
