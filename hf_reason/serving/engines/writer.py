"""Tokens of a chain -> pieces of its thought and its answer, as soon as their text is certain."""

from hf_reason.generation.batching import decode_ids
from hf_reason.generation.live import LiveChain

from .base import End, Piece, TokenLogprob
from .texts import AnswerText, ThoughtText

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
        self.known = ""  # that text

    def push(self, token: int) -> str:
        """The text that the token completes."""
        self.ids.append(token)
        return self._take(final=False)

    def rest(self) -> str:
        """What is left, whole characters or not."""
        return self._take(final=True)

    def _take(self, final: bool) -> str:
        known, text = self.known, self._text(self.ids)
        waits = text.endswith(_REPLACEMENT) and len(self.ids) - self.given < _LONGEST_CHARACTER
        if not final and (waits or not text.startswith(known)):
            return ""
        new = text[len(known) :]
        self.known = text
        if len(self.ids) > _WINDOW:
            self.ids = self.ids[-_WINDOW // 2 :]
            self.known = self._text(self.ids)
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
        self.tokenizer = tokenizer
        self.decoder = Decoder(tokenizer)
        self.thinks = thinks
        self.thought, self.answer = ThoughtText(), AnswerText(stop)
        self.noted = 0  # log-probabilities that have been given

    def push(self, chain: LiveChain, token: int, thought: bool) -> Piece | None:
        """What a new token adds; with the last, `end`, and `chain.budget.done` where a stop text ended it."""
        budget = chain.budget
        text = "" if budget.ended else self.decoder.push(token)
        steps: tuple[str, ...] | None = None
        more = ""
        if thought and budget.thinks:
            more, text = self.thought.push(text), ""
        elif thought:  # the tag is closed
            self.thought.text += text + self.decoder.rest()
            more, text = self.thought.close()
            steps = self.thought.steps
        elif budget.done:
            text += self.decoder.rest()
        answer = self.answer.push(text, final=budget.done)
        chain.blank = self.answer.blank
        if self.answer.stopped:
            budget.done = budget.ended = True
        end = self._end(chain) if budget.done else None
        logprobs = self._logprobs(chain) if not thought or end else ()
        if not (more or answer or end or logprobs) and steps is None:
            return None
        return Piece(more, answer, steps, logprobs, end)

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
