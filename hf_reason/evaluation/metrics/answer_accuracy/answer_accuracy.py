"""Answer accuracy with its 95% confidence interval."""

from collections.abc import Sequence
from typing import Any

import evaluate

from hf_reason.evaluation import scoring
from hf_reason.evaluation.metric_base import TEXT, ReasoningMetric

_DESCRIPTION = """
Fraction of the outputs whose answer says what the reference says, with a 95% Wilson score interval. Numbers, formulas
and choices are verified (fractions, percentages, units, full-width and Chinese forms); free text is compared letter by
letter after normalisation. An output whose thought was not closed has no answer and is wrong.
"""

_INPUTS = """
Args:
    predictions (list of str): outputs of the model (thought and answer), or bare answers. Put "<think>" in front of
        outputs whose prompt had opened the thought already, so that one that was cut is not read as an answer.
    references (list of str): the reference answers; a pair with an empty one is left out.
    records (list of int; optional): number of each output's record. With several outputs for a record the accuracy is
        the mean over them, then over the records, and the interval counts records, for samples of one record are not
        independent.
    use_aggregator (bool): False returns [record, verdict] of each output ("scores") instead of the figures; the
        verdict is None where there is no reference.
Returns:
    answer_accuracy (float or None): correct / scored.
    answer_accuracy_ci (list of two floats, or None): the 95% interval.
    num_scored, num_correct (int): the counts, of outputs.
Example:
    >>> metric = evaluate.load(metric_path("answer_accuracy"))
    >>> metric.compute(predictions=["步骤1: 3+4=7\\n</think>\\n\\n7个", "8"], references=["7", "7"])
    {'answer_accuracy': 0.5, 'answer_accuracy_ci': [0.0945, 0.9055], 'num_scored': 2, 'num_correct': 1}
"""
_CITATION = """
@article{wilson1927probable,
  title={Probable inference, the law of succession, and statistical inference},
  author={Wilson, Edwin B.}, journal={Journal of the American Statistical Association},
  volume={22}, number={158}, pages={209--212}, year={1927}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class AnswerAccuracy(ReasoningMetric):
    texts = (_DESCRIPTION, _INPUTS, _CITATION)
    columns = {"predictions": TEXT, "references": TEXT}

    def score(
        self, predictions: list[str], references: list[str], records: Sequence[int] | None = None
    ) -> list[tuple[int, bool | None]]:
        verdicts = scoring.answer_verdicts(predictions, references)
        return list(zip(range(len(verdicts)) if records is None else records, verdicts, strict=True))

    def aggregate(self, scores: Any) -> dict[str, float | int | list[float] | None]:
        scored = [verdict for _, verdict in scores if verdict is not None]
        accuracy, records = scoring.mean_over_records(scores)
        interval = None if accuracy is None else list(scoring.wilson_interval(accuracy, records))
        return {
            "answer_accuracy": accuracy,
            "answer_accuracy_ci": interval,
            "num_scored": len(scored),
            "num_correct": sum(scored),
        }
