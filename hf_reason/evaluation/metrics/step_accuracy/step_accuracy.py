"""Step accuracy: correct steps / all steps that can be checked."""

import datasets
import evaluate

from hf_reason.evaluation import scoring
from hf_reason.text.render import parse

_DESCRIPTION = """
Share of the reasoning steps that are correct, among those that can be checked. A step can be checked when it states
an equation; it is correct when all of its equations hold and the result of the last one is among the results of the
reference's equations (where the reference has none, holding is enough).
"""

_INPUTS = """
Args:
    predictions (list of str): outputs of the model, "步骤1: ...\\n步骤2: ...\\n</think>\\n\\nanswer" (an opening
        <think> may stand in front).
    references (list of list of str): steps of the reference, one list a prediction; an empty list where there is none.
Returns:
    step_accuracy (float or None): correct steps / checkable steps, over all predictions together.
    equations_hold (float or None): steps whose equations all hold / checkable steps, whatever the reference says.
    checkable_share (float or None): checkable steps / steps.
    num_steps, num_checkable, num_correct (int): the counts.
Example:
    >>> metric = evaluate.load(metric_path("step_accuracy"))
    >>> metric.compute(
    ...     predictions=["步骤1: 3+4=7\\n步骤2: 7×2=15\\n</think>\\n\\n15"], references=[["3+4=7", "7×2=14"]]
    ... )
    {'step_accuracy': 0.5, ...}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class StepAccuracy(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Value("string"), "references": datasets.List(datasets.Value("string"))}
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=datasets.Features(features)
        )

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float | int | None]:
        pairs = zip(predictions, references, strict=True)
        score = sum((scoring.score_steps(parse(text).steps, steps) for text, steps in pairs), scoring.StepScore())
        return {
            "step_accuracy": scoring.ratio(score.correct, score.checkable),
            "equations_hold": scoring.ratio(score.holding, score.checkable),
            "checkable_share": scoring.ratio(score.checkable, score.total),
            "num_steps": score.total,
            "num_checkable": score.checkable,
            "num_correct": score.correct,
        }
