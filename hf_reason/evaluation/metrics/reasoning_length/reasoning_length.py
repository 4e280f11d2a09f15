"""Reasoning length: what the reader waits for, and whether the thought ends at all."""

from collections.abc import Sequence
from typing import Any

import evaluate

from hf_reason.evaluation import scoring
from hf_reason.evaluation.metric_base import TEXT, ReasoningMetric
from hf_reason.evaluation.prose import read_prose, steps_of

_DESCRIPTION = """
How long a model reasons until its answer begins (tokens and steps), how often the thought is closed, and how often the
output repeats itself without end.
"""

_INPUTS = """
Args:
    predictions (list of str): outputs of the model, "步骤1: ...\\n步骤2: ...\\n</think>\\n\\nanswer". Put "<think>" in
        front of outputs whose prompt had opened the thought, so that one that was cut is not read as an answer.
    tokenizer (a transformers tokenizer, or its name or path; optional): counts the tokens. Without it (and without
        thought_tokens) only characters are counted, and the figures in tokens are None.
    thought_tokens (list of int; optional): tokens of each output up to and including </think>, where they are known.
    forced (list of bool; optional): outputs whose </think> was not written by the model (a budget had ended).
    thinking (bool; optional): False where no thought was asked for: the answer then begins at once. Default: True.
    prose (bool; optional): True for a model that writes no thought in tags: the lengths are those of the prose until
        its answer begins, and there is no close rate. Default: False.
    use_aggregator (bool): False returns the lengths of each output ("scores") instead of the figures.
Returns:
    mean_tokens, median_tokens, p95_tokens (float or None): tokens up to and including </think>; the whole output where
        the thought was not closed, 0 where there is no thought. None if no output closes a thought; an empty output
        does not count.
    mean_characters (float): the same in characters.
    mean_steps (float or None): steps of the thought, with the same exceptions as the tokens.
    close_rate (float or None): fraction of the outputs in which the model wrote </think>.
    repeat_rate (float): fraction of the outputs that loop (repetition of character n-grams or of steps above 0.7).
    num_outputs (int)
Example:
    >>> metric = evaluate.load(metric_path("reasoning_length"))
    >>> metric.compute(predictions=["<think>\\n步骤1: 3+4=7\\n</think>\\n\\n7"], tokenizer="path/to/model")
    {'mean_tokens': 14.0, ..., 'mean_steps': 1.0, 'close_rate': 1.0, 'repeat_rate': 0.0, 'num_outputs': 1}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class ReasoningLength(ReasoningMetric):
    texts = (_DESCRIPTION, _INPUTS, "")
    columns = {"predictions": TEXT}

    def score(
        self,
        predictions: list[str],
        tokenizer: Any = None,
        thought_tokens: Sequence[int] | None = None,
        forced: Sequence[bool] | None = None,
        thinking: bool = True,
        prose: bool = False,
    ) -> list[scoring.LengthScore]:
        if isinstance(tokenizer, str):
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        if prose:
            thoughts = [text[: read_prose(text)[1]] for text in predictions]
        else:
            thoughts = [scoring.thought_part(text) for text in predictions]
        counts: Sequence[int | None] = [None] * len(predictions)
        if thought_tokens is not None:
            counts = thought_tokens
        elif tokenizer:
            counts = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in thoughts]
        steps = [steps_of(text, prose) for text in predictions]
        ended = forced if forced is not None else [False] * len(predictions)
        return [
            scoring.LengthScore(
                tokens=count if text.strip() or not thinking else None,
                characters=len(thought),
                steps=len(found) if text.strip() or not thinking else None,
                closed=None if prose else scoring.is_closed(text) and not by_force,
                loops=scoring.is_loop(text, found),
                ended=prose or scoring.is_closed(text) or not thinking,
            )
            for text, thought, count, found, by_force in zip(predictions, thoughts, counts, steps, ended, strict=True)
        ]

    def aggregate(self, scores: Any) -> dict[str, float | int | None]:
        # Where no thought ends, nothing says how long the answer takes: its length is not known, and not 0.
        known = list(scores) if any(score.ended for score in scores) else []
        return {
            **scoring.length_figures([score.tokens for score in known if score.tokens is not None]),
            "mean_characters": scoring.mean(score.characters for score in scores),
            "mean_steps": scoring.mean(score.steps for score in known),
            "close_rate": scoring.mean(score.closed for score in scores),
            "repeat_rate": scoring.mean(score.loops for score in scores),
            "num_outputs": len(scores),
        }
