"""Answer accuracy with its 95% confidence interval."""

import datasets
import evaluate

from hf_reason.evaluation import scoring

_DESCRIPTION = """
Share of the outputs whose answer says what the reference says, with a 95% Wilson score interval. Numbers, formulas and
choices are verified (fractions, percentages, units, full-width and Chinese forms); free text is compared letter by
letter after normalisation. An output whose thought was not closed has no answer and is wrong.
"""

_INPUTS = """
Args:
    predictions (list of str): outputs of the model (thought and answer), or bare answers. Put "<think>" in front of
        outputs whose prompt had opened the thought already, so that one that was cut is not taken for an answer.
    references (list of str): the reference answers; a pair with an empty one is left out.
Returns:
    answer_accuracy (float or None): correct / scored.
    answer_accuracy_ci (list of two floats, or None): the 95% interval.
    num_scored, num_correct (int): the counts.
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
class AnswerAccuracy(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({name: datasets.Value("string") for name in ("predictions", "references")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation=_CITATION, inputs_description=_INPUTS, features=features
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float | int | list[float] | None]:
        pairs = zip(predictions, references, strict=True)
        verdicts = [scoring.answer_correct(scoring.output_answer(text), answer) for text, answer in pairs]
        scored = [verdict for verdict in verdicts if verdict is not None]
        accuracy = scoring.mean(scored)
        interval = None if accuracy is None else list(scoring.wilson_interval(accuracy, len(scored)))
        return {
            "answer_accuracy": accuracy,
            "answer_accuracy_ci": interval,
            "num_scored": len(scored),
            "num_correct": sum(scored),
        }
