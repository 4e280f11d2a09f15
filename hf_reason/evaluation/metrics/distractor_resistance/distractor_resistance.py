"""Distractor resistance: accuracy with noise in the problem / accuracy without."""

import datasets
import evaluate

from hf_reason.evaluation import scoring

_DESCRIPTION = """
How much of its accuracy a model keeps when an irrelevant sentence with a number stands in the problem: accuracy with
the noise / accuracy without. 1 means that the noise costs nothing; above 1 that the model got better by chance. Make
the noisy problems with `hf_reason.data.synthetic.distractors.insert_distractor`.
"""

_INPUTS = """
Args:
    predictions (list of str): outputs on the problems with noise, as for answer_accuracy.
    clean_predictions (list of str): outputs on the same problems, in the same order, without noise.
    references (list of str): the reference answers; a row with an empty one is left out.
Returns:
    distractor_resistance (float or None): distracted_accuracy / clean_accuracy; None when the latter is 0.
    distracted_accuracy, clean_accuracy (float or None): the two accuracies.
    num_scored (int): rows that were scored.
Example:
    >>> metric = evaluate.load(metric_path("distractor_resistance"))
    >>> metric.compute(predictions=["7", "30"], clean_predictions=["7", "9"], references=["7", "9"])
    {'distractor_resistance': 0.5, 'distracted_accuracy': 0.5, 'clean_accuracy': 1.0, 'num_scored': 2}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class DistractorResistance(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        names = ("predictions", "clean_predictions", "references")
        features = datasets.Features({name: datasets.Value("string") for name in names})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features
        )

    def _compute(
        self, predictions: list[str], clean_predictions: list[str], references: list[str]
    ) -> dict[str, float | int | None]:
        def accuracy(outputs: list[str]) -> float | None:
            pairs = zip(outputs, references, strict=True)
            return scoring.mean(scoring.answer_correct(scoring.output_answer(text), answer) for text, answer in pairs)

        noisy, clean = accuracy(predictions), accuracy(clean_predictions)
        return {
            "distractor_resistance": None if noisy is None or clean is None else scoring.ratio(noisy, clean),
            "distracted_accuracy": noisy,
            "clean_accuracy": clean,
            "num_scored": sum(bool(answer.strip()) for answer in references),
        }
