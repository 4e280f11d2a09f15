"""Key-node coverage: share of the reference's intermediate results that the output's steps state."""

import datasets
import evaluate

from hf_reason.evaluation import scoring
from hf_reason.text.render import parse

_DESCRIPTION = """
Share of the reference's key results that occur in the steps of the output. A key result is the result of an equation
in the reference's steps, each counted once; it occurs when some step of the output states that number.
"""

_INPUTS = """
Args:
    predictions (list of str): outputs of the model, "步骤1: ...\\n步骤2: ...\\n</think>\\n\\nanswer" (an opening
        <think> may stand in front). Only the steps are looked at, never the answer.
    references (list of list of str): steps of the reference, one list a prediction.
Returns:
    key_node_coverage (float or None): key results that occur / key results, over all predictions together.
    num_key_results, num_covered (int): the counts.
Example:
    >>> metric = evaluate.load(metric_path("key_node_coverage"))
    >>> metric.compute(predictions=["步骤1: 共有7个\\n</think>\\n\\n14"], references=[["3+4=7", "7×2=14"]])
    {'key_node_coverage': 0.5, 'num_key_results': 2, 'num_covered': 1}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class KeyNodeCoverage(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Value("string"), "references": datasets.List(datasets.Value("string"))}
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=datasets.Features(features)
        )

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float | int | None]:
        pairs = zip(predictions, references, strict=True)
        counts = [scoring.key_coverage(parse(text).steps, steps) for text, steps in pairs]
        covered, total = sum(count[0] for count in counts), sum(count[1] for count in counts)
        return {"key_node_coverage": scoring.ratio(covered, total), "num_key_results": total, "num_covered": covered}
