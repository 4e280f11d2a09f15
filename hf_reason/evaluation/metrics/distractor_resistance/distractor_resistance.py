"""Distractor resistance: accuracy with noise in the problem / accuracy without."""

from collections.abc import Sequence
from typing import Any

import evaluate

from hf_reason.evaluation import scoring
from hf_reason.evaluation.metric_base import TEXT, ReasoningMetric

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
    records (list of int; optional): number of each row's record, as for answer_accuracy.
    use_aggregator (bool): False returns [record, verdict with noise, verdict without] of each row ("scores").
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
class DistractorResistance(ReasoningMetric):
    texts = (_DESCRIPTION, _INPUTS, "")
    columns = {"predictions": TEXT, "clean_predictions": TEXT, "references": TEXT}

    def score(
        self,
        predictions: list[str],
        clean_predictions: list[str],
        references: list[str],
        records: Sequence[int] | None = None,
    ) -> list[tuple[int, bool | None, bool | None]]:
        noisy, clean = (scoring.answer_verdicts(texts, references) for texts in (predictions, clean_predictions))
        return list(zip(range(len(noisy)) if records is None else records, noisy, clean, strict=True))

    def aggregate(self, scores: Any) -> dict[str, float | int | None]:
        noisy, _ = scoring.mean_over_records((record, verdict) for record, verdict, _ in scores)
        clean, _ = scoring.mean_over_records((record, verdict) for record, _, verdict in scores)
        return {
            "distractor_resistance": None if noisy is None or clean is None else scoring.ratio(noisy, clean),
            "distracted_accuracy": noisy,
            "clean_accuracy": clean,
            "num_scored": sum(verdict is not None for _, verdict, _ in scores),
        }
