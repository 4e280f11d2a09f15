"""Key-node coverage: fraction of the reference's intermediate results that the output's steps state."""

from typing import Any

import evaluate

from hf_reason.evaluation import scoring
from hf_reason.evaluation.metric_base import STEPS, TEXT, ReasoningMetric
from hf_reason.evaluation.prose import steps_of

_DESCRIPTION = """
Fraction of the reference's key results that occur in the steps of the output. A key result is the result of an
equation in the reference's steps, each counted once; it occurs when some step of the output states that number.
"""

_INPUTS = """
Args:
    predictions (list of str): outputs of the model, "步骤1: ...\\n步骤2: ...\\n</think>\\n\\nanswer" (an opening
        <think> may stand in front). Only the steps are looked at, never the answer.
    references (list of list of str): steps of the reference, one list for each prediction.
    prose (bool; optional): True for a model that writes no thought in tags: the steps are those of its prose.
    use_aggregator (bool): False returns the counts of each output, [covered, key results], instead of the figures.
Returns:
    key_node_coverage (float or None): key results that occur / key results, over all predictions together.
    num_key_results, num_covered (int): the counts.
Example:
    >>> metric = evaluate.load(metric_path("key_node_coverage"))
    >>> metric.compute(predictions=["步骤1: 共有7个\\n</think>\\n\\n14"], references=[["3+4=7", "7×2=14"]])
    {'key_node_coverage': 0.5, 'num_key_results': 2, 'num_covered': 1}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class KeyNodeCoverage(ReasoningMetric):
    texts = (_DESCRIPTION, _INPUTS, "")
    columns = {"predictions": TEXT, "references": STEPS}

    def score(self, predictions: list[str], references: list[list[str]], prose: bool = False) -> list[tuple[int, int]]:
        pairs = zip(predictions, references, strict=True)
        return [scoring.key_coverage(steps_of(text, prose), steps) for text, steps in pairs]

    def aggregate(self, scores: Any) -> dict[str, float | int | None]:
        covered, total = sum(score[0] for score in scores), sum(score[1] for score in scores)
        return {"key_node_coverage": scoring.ratio(covered, total), "num_key_results": total, "num_covered": covered}
