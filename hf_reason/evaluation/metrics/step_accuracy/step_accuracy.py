"""Step accuracy: correct steps / all steps that can be checked."""

from typing import Any

import evaluate

from hf_reason.evaluation import scoring
from hf_reason.evaluation.metric_base import STEPS, TEXT, ReasoningMetric
from hf_reason.evaluation.prose import steps_of

_DESCRIPTION = """
Fraction of the reasoning steps that are correct, among those that can be checked. A step can be checked when it states
an equation; it is correct when all of its equations hold and the result of the last one is among the results of the
reference's equations (where the reference has none, holding is enough).
"""

_INPUTS = """
Args:
    predictions (list of str): outputs of the model, "步骤1: ...\\n步骤2: ...\\n</think>\\n\\nanswer" (an opening
        <think> may stand in front).
    references (list of list of str): steps of the reference, one list for each prediction; an empty list where there
        is none.
    prose (bool; optional): True for a model that writes no thought in tags: the steps are those of its prose.
    use_aggregator (bool): False returns the counts of each output ("scores") instead of the figures.
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
class StepAccuracy(ReasoningMetric):
    texts = (_DESCRIPTION, _INPUTS, "")
    columns = {"predictions": TEXT, "references": STEPS}

    def score(
        self, predictions: list[str], references: list[list[str]], prose: bool = False
    ) -> list[scoring.StepScore]:
        pairs = zip(predictions, references, strict=True)
        return [scoring.score_steps(steps_of(text, prose), steps) for text, steps in pairs]

    def aggregate(self, scores: Any) -> dict[str, float | int | None]:
        total = sum(scores, scoring.StepScore())
        return {
            "step_accuracy": scoring.ratio(total.correct, total.checkable),
            "equations_hold": scoring.ratio(total.holding, total.checkable),
            "checkable_share": scoring.ratio(total.checkable, total.total),
            "num_steps": total.total,
            "num_checkable": total.checkable,
            "num_correct": total.correct,
        }
