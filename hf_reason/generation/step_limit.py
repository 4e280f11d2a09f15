"""Generation that ends at a step: each row of a batch stops where its k-th step does."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, StoppingCriteria

from hf_reason.text.render import CLOSE_TAG, OPEN_TAG, is_labelled, opened_by_prompt
from hf_reason.text.spans import decoded
from hf_reason.text.written import read_chain

# Where a step can end: a line, a sentence, a tag; the beginning of the next label; a token that is no whole character.
_MARKS = re.compile("[\n>。.!?！？;；:：骤驟\ufffd]")
# The same in a thought with labels: a reading costs more than a token of a small model, so there are as few as can be.
_MARKS_OF_LABELLED = re.compile("[\n>骤驟\ufffd]")
# The label of a step, as far as it is written: no line of a step begins so.
_LABEL_BEGINS = re.compile(r"\n\s*步[骤驟]\d*$")
_PROMPT_TAIL = 16  # tokens in which the prompt's opening tag is looked for


class StepLimit(StoppingCriteria):
    """Stops a row after so many steps of its thought, or where the thought is closed if that comes first.

    A step ends where the label of the next one begins, or, in a thought without labels, where `hf_reason.text.written`
    begins the next. The tokens that show it are sampled and are no part of the row's result. Text that opens no
    thought is read as one. The batch ends when all rows have.

    Args:
        tokenizer: The model's.
        prompts: Token ids of each row's prompt.
        limits: Steps of each row; `None`: as many as it writes.
        ends: Tokens that end a turn.
        start: Columns of the padded prompts.

    Attributes:
        kept: For each row that was stopped, the number of its tokens that stay; `None` for the others.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Sequence[int]],
        limits: Sequence[int | None],
        ends: Sequence[int],
        start: int,
    ):
        self.tokenizer, self.limits, self.ends, self.start = tokenizer, list(limits), set(ends), start
        self.kept: list[int | None] = [None] * len(prompts)
        self._opened = [opened_by_prompt(decoded(list(prompt)[-_PROMPT_TAIL:], tokenizer)) for prompt in prompts]
        # a thought that the prompt has closed has no steps
        self._open = [
            limit is not None and CLOSE_TAG not in opened
            for limit, opened in zip(self.limits, self._opened, strict=True)
        ]
        self._labelled = [False] * len(prompts)
        self._marked: dict[tuple[int, bool], bool] = {}

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.BoolTensor:
        for row, last in enumerate(input_ids[:, -2:].tolist()):
            if not self._open[row]:
                continue
            if last[-1] in self.ends:
                self._open[row] = False
            elif self._may_have_ended(row, last):
                self.kept[row] = self._end_of_steps(input_ids[row, self.start :].tolist(), row)
                self._open[row] = self.kept[row] is None
        done = [kept is not None for kept in self.kept]
        return torch.tensor(done, device=input_ids.device)  # type: ignore[return-value]

    def _may_have_ended(self, row: int, last: list[int]) -> bool:
        if self._labelled[row]:
            return self._has_mark(last[-1], True)
        # prose shows its next step by what follows the mark
        return any(self._has_mark(token, False) for token in last)

    def _has_mark(self, token: int, labelled: bool) -> bool:
        if (token, labelled) not in self._marked:
            marks = _MARKS_OF_LABELLED if labelled else _MARKS
            self._marked[token, labelled] = bool(marks.search(decoded([token], self.tokenizer)))
        return self._marked[token, labelled]

    def _end_of_steps(self, ids: list[int], row: int) -> int | None:
        """How many of a row's tokens belong to its first k steps, if these have ended."""
        limit, opened = self.limits[row] or 0, self._opened[row]
        chain = read_chain(ids, self.tokenizer, opened)
        if not chain.has_thought:  # it has not been opened: so far the text could be an answer
            chain = read_chain(ids, self.tokenizer, f"{OPEN_TAG}\n")
        elif chain.closed and len(chain.steps) <= limit:
            return len(ids)
        if len(chain.steps) > limit:
            return sum(number <= limit for number in chain.step_ids)
        # the next label begins: it need not be written to its end
        text = decoded(ids, self.tokenizer)
        self._labelled[row] = self._labelled[row] or is_labelled(opened + text)
        begun = _LABEL_BEGINS.search(text)
        if begun is None or len(chain.steps) < limit or not chain.steps[-1] or not self._labelled[row]:
            return None
        cut = len(ids)
        while cut and len(decoded(ids[:cut], self.tokenizer)) > begun.start() + 1:
            cut -= 1
        return cut or None
