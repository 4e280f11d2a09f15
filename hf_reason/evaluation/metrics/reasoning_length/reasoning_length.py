"""Reasoning length: what the reader waits for, and whether the thought ends at all."""

from typing import Any

import datasets
import evaluate

from hf_reason.evaluation import scoring
from hf_reason.text.render import parse

_DESCRIPTION = """
How long a model reasons until its answer begins (tokens and steps), how often the thought is closed, and how often the
output goes round in circles.
"""

_INPUTS = """
Args:
    predictions (list of str): outputs of the model, "步骤1: ...\\n步骤2: ...\\n</think>\\n\\nanswer". Put "<think>" in
        front of outputs whose prompt had opened the thought, so that one that was cut is not taken for an answer.
    tokenizer (a transformers tokenizer, or its name or path; optional): counts the tokens. Without it only characters
        are counted, and the figures in tokens are None.
Returns:
    mean_tokens, median_tokens, p95_tokens (float or None): tokens up to and including </think>; the whole output where
        the thought was not closed, nothing where there is none.
    mean_characters (float): the same in characters.
    mean_steps (float): steps of the thought.
    close_rate (float): share of the outputs that wrote </think>.
    repeat_rate (float): share of the outputs that loop (a repetition of character n-grams or of steps above 0.7).
    num_outputs (int)
Example:
    >>> metric = evaluate.load(metric_path("reasoning_length"))
    >>> metric.compute(predictions=["<think>\\n步骤1: 3+4=7\\n</think>\\n\\n7"], tokenizer="path/to/model")
    {'mean_tokens': 14.0, ..., 'mean_steps': 1.0, 'close_rate': 1.0, 'repeat_rate': 0.0, 'num_outputs': 1}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class ReasoningLength(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features
        )

    def _compute(self, predictions: list[str], tokenizer: Any = None) -> dict[str, float | int | None]:
        if isinstance(tokenizer, str):
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        thoughts = [scoring.thought_part(text) for text in predictions]
        parsed = [parse(text) for text in predictions]
        loops = [scoring.is_loop(text, found.steps) for text, found in zip(predictions, parsed, strict=True)]
        tokens = (
            [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in thoughts] if tokenizer else []
        )
        return {
            **scoring.length_figures(tokens),
            "mean_characters": scoring.mean(map(len, thoughts)),
            "mean_steps": scoring.mean(len(found.steps) for found in parsed),
            "close_rate": scoring.mean(map(scoring.is_closed, predictions)),
            "repeat_rate": scoring.mean(loops),
            "num_outputs": len(predictions),
        }
