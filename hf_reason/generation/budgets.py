"""Budgets of thought and answer inside one run of `generate`: the thought is opened, and closed when its budget ends.

Each row of a batch goes from the thought to the answer on its own, in one sequence with one cache; none waits for the
others. Ending a thought by writing its closing tag is the budget forcing of Muennighoff et al. (2025, arXiv
2501.19393).
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    StoppingCriteria,
)
from transformers.generation import StoppingCriteriaList

from hf_reason.text.render import CLOSE_TAG, OPEN_TAG, opened_by_prompt

from .batching import decode_ids

# Tokens in which a closing tag is looked for that is no single token of the vocabulary.
_TAIL = 16


@dataclass(frozen=True)
class Frame:
    """The tokens that may be forced.

    Attributes:
        opening: What opens the thought; empty where the prompt has done so.
        closing: `</think>`, at the beginning of a line.
        breaking: The same within a line: a line break first.
        stops: Ids that end an output.
    """

    opening: tuple[int, ...]
    closing: tuple[int, ...]
    breaking: tuple[int, ...]
    stops: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, opened: str, stops: Sequence[int]) -> "Frame":
        """For a prompt that ends in `opened` (see `hf_reason.text.render.opened_by_prompt`).

        Raises:
            ValueError: if the vocabulary cannot write the closing tag.
        """

        def ids(text: str) -> tuple[int, ...]:
            return tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()

        opening = f"{OPEN_TAG}\n" if not opened else "" if opened.endswith("\n") else "\n"
        frame = cls(ids(opening), ids(CLOSE_TAG), ids(f"\n{CLOSE_TAG}"), tuple(stops))
        if any(CLOSE_TAG not in decode_ids(tokenizer, closing) for closing in (frame.closing, frame.breaking)):
            raise ValueError(
                f"The tokenizer cannot write {CLOSE_TAG}. Add the tags to its tokens (and resize the embeddings)."
            )
        return frame

    @property
    def least_thought(self) -> int:
        """The smallest budget that leaves a token to think with."""
        return len(self.opening) + 1 + len(self.breaking)


def thought_budgets(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    config: GenerationConfig,
    max_thought_tokens: int,
    max_answer_tokens: int,
) -> "Callable[[list[int]], ThoughtBudget]":
    """`steer` of `generate_ids` for rendered prompts.

    Raises:
        ValueError: if a prompt closes its thought, or the thought's budget has no room for both tags and a token.
    """
    opened = [opened_by_prompt(prompt) for prompt in prompts]
    if any(CLOSE_TAG in text for text in opened):
        raise ValueError(
            "The chat template closes the thought in its generation prompt, so there is nothing to think. Use a "
            "template whose generation prompt leaves the thought open."
        )
    stops = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    made = {text: Frame.of(tokenizer, text, [stop for stop in stops if stop is not None]) for text in set(opened)}
    least = max((frame.least_thought for frame in made.values()), default=1)
    if max_thought_tokens < least:
        raise ValueError(
            f"max_thought_tokens is {max_thought_tokens}; it must be at least {least}, for the tags and a token "
            "between them."
        )
    if (config.num_beams or 1) > 1:
        raise ValueError("Beams change places, so their budgets cannot be counted. Leave num_beams out.")

    def steer(numbers: list[int]) -> ThoughtBudget:
        rows = [BudgetRow(made[opened[number]], max_thought_tokens, max_answer_tokens) for number in numbers]
        return ThoughtBudget(tokenizer, rows)

    return steer


@dataclass(frozen=True)
class Written:
    """A row's output.

    Attributes:
        ids: Its tokens without the stop token.
        thought_tokens: How many of them are the thought, both tags included.
        closed_by: "model", "budget", or "stop" where the model would have ended its output within the thought.
        ended: Whether the model ended the answer; `False` where the answer's budget did.
    """

    ids: list[int]
    thought_tokens: int
    closed_by: str
    ended: bool


@dataclass
class BudgetRow:
    """Where a sequence stands between its thought and the end of its answer, and how far it may go.

    It outlives a batch: a row may leave one and continue in the next.

    Attributes:
        frame: The tokens that may be forced.
        max_thought_tokens: Most tokens of the thought, both tags included.
        max_answer_tokens: Most tokens after the closing tag, the stop token included.
        max_tokens: Most tokens of both together.
        thinks: Whether the thought is open. `False` at the start for a prompt that has closed it.
        done: Whether nothing more is written.
        thought, answer: Tokens written so far.
        closed_by: See `Written`.
        ended: Whether the model ended the answer.
    """

    frame: Frame
    max_thought_tokens: int
    max_answer_tokens: int
    max_tokens: int = sys.maxsize
    pending: list[int] = field(init=False)  # tokens that are forced next
    opening: int = field(init=False)  # tokens of the opening to come
    thinks: bool = True
    done: bool = False
    thought: int = 0
    answer: int = 0
    line: int = 0  # tokens of the unfinished line
    longest: int = 0  # tokens of the longest line so far
    tail: list[int] = field(default_factory=list)
    reason: str = ""  # why the pending tag is forced
    closed_by: str = "model"
    ended: bool = False

    def __post_init__(self) -> None:
        self.pending = list(self.frame.opening) if self.thinks else []
        self.opening = len(self.pending)

    def take_opening(self) -> list[int]:
        """Count the rest of the opening as written, and return its tokens: they can be read with the prompt."""
        tokens, self.pending = self.pending[: self.opening], self.pending[self.opening :]
        self.thought, self.opening = self.thought + len(tokens), 0
        return tokens


class ThoughtBudget:
    """Steers one batch (`hf_reason.generation.batching.Steering`).

    A thought is closed by force
    - when its tokens are used up, in the middle of a line if need be,
    - before that at the end of a line (a step is one or several lines) when a line as long as the longest so far would
      not fit any more, so that a step is seldom cut,
    - where the model's likeliest token would end the output. Otherwise such tokens are ruled out in the thought.
    A tag that the model's likeliest token would have been in any case does not count as forced.

    Args:
        tokenizer: The model's.
        rows: The state of each row, which is changed in place.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, rows: Sequence[BudgetRow]) -> None:
        self.tokenizer, self.rows = tokenizer, list(rows)
        frames = {row.frame for row in rows}
        self.largest = max((max((*f.opening, *f.closing, *f.breaking)) for f in frames), default=0)

    def generate_kwargs(self) -> dict[str, Any]:
        return {
            "logits_processor": LogitsProcessorList([_Force(self)]),
            "stopping_criteria": StoppingCriteriaList([_Stop(self)]),
        }

    def kept(self, rows: Sequence[int]) -> "ThoughtBudget":
        return ThoughtBudget(self.tokenizer, [self.rows[row] for row in rows])

    def result(self, row: int, ids: list[int]) -> Written:
        state = self.rows[row]
        return Written(ids[: state.thought + state.answer], state.thought, state.closed_by, state.ended)

    def force(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores [rows, vocabulary] of the next token, with what is ruled out at -inf.

        Raises:
            ValueError: if the tags have ids that the model does not score.
        """
        if self.largest >= scores.shape[-1]:
            raise ValueError(
                f"The tokenizer writes the tags of the thought with the id {self.largest}, but the model has a "
                f"vocabulary of {scores.shape[-1]}. Call model.resize_token_embeddings(len(tokenizer)) and train them."
            )
        if not any(row.thinks and not row.done for row in self.rows):
            return scores
        likeliest, scores = scores.argmax(dim=-1).tolist(), scores.clone()
        for row, best, values in zip(self.rows, likeliest, scores, strict=True):
            if row.done or not row.thinks:
                continue
            if not row.pending:
                self._maybe_close(row, best)
            if row.pending:
                token = row.pending[0]
                if row.reason and token != best:
                    row.closed_by = row.reason
                values.fill_(-torch.inf)
                values[token] = 0.0
            else:
                values[list(row.frame.stops)] = -torch.inf
        return scores

    def _maybe_close(self, row: BudgetRow, best: int) -> None:
        frame, left = row.frame, row.max_thought_tokens - row.thought
        spent = left <= len(frame.breaking)
        if not spent and row.line == 0 and row.longest:
            spent = left - len(frame.closing) < row.longest
        if spent or best in frame.stops:
            row.reason = "budget" if spent else "stop"
            row.pending = list(frame.breaking if row.line else frame.closing)

    def advance(self, tokens: Sequence[int]) -> list[bool]:
        """Count each row's new token; returns which rows are done."""
        for row, token in zip(self.rows, tokens, strict=True):
            if row.done:
                continue
            if row.thinks:
                self._think(row, token)
            elif token in row.frame.stops:
                row.done = row.ended = True
            else:
                row.answer += 1
                row.done = row.answer >= min(row.max_answer_tokens, row.max_tokens - row.thought)
        return [row.done for row in self.rows]

    def _think(self, row: BudgetRow, token: int) -> None:
        row.thought += 1
        row.pending = row.pending[1:]
        if row.opening:
            row.opening -= 1
            return
        row.tail = [*row.tail[1 - _TAIL :], token]
        text = decode_ids(self.tokenizer, row.tail)
        if CLOSE_TAG in text:
            row.thinks = False
        elif text.endswith("\n"):
            row.longest, row.line = max(row.longest, row.line + 1), 0
        else:
            row.line += 1


class _Force(LogitsProcessor):
    def __init__(self, budget: ThoughtBudget) -> None:
        self.budget = budget

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        return self.budget.force(scores)  # type: ignore[return-value]


class _Stop(StoppingCriteria):
    def __init__(self, budget: ThoughtBudget) -> None:
        self.budget = budget

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.BoolTensor:
        done = self.budget.advance(input_ids[:, -1].tolist())
        return torch.tensor(done, device=input_ids.device)  # type: ignore[return-value]
