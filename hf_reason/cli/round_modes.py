"""The other mode of a hybrid model in a round of continual learning: measured before and after, for the guard."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_reason._files import write_json_atomically
from hf_reason.evaluation import EvaluationResult, evaluate_model, save_report
from hf_reason.text.modes import has_switch

if TYPE_CHECKING:
    from .runner import TrainingRun

OTHER_BEFORE_FILE = "before_other_mode.json"
# So many records tell whether the model can answer in the other mode at all.
PROBE_RECORDS = 32


class OtherMode:
    """The mode in which a round does not train its model.

    A model has both modes if its chat template has a switch between them and it answers some of the first test
    records in the other one.

    Args:
        run: The round.
        trainer: Its trainer.
    """

    def __init__(self, run: "TrainingRun", trainer: Any):
        self._run, self._trainer = run, trainer
        self._thinking = not run.data.thinking
        self._output = Path(str(run.args.output_dir))

    def measure_before(self) -> None:
        """Evaluate before anything is trained, once; a resumed run keeps the file."""
        path = self._output / OTHER_BEFORE_FILE
        if path.is_file() or not has_switch(self._trainer.processing_class):
            return
        assert self._run.splits.test is not None
        records = list(self._run.splits.test)
        spread = records[:: max(1, len(records) // PROBE_RECORDS)][:PROBE_RECORDS]
        results = self._evaluate(spread)
        if results.answer_accuracy and len(spread) < len(records):
            results = self._evaluate(records)
        if self._trainer.is_world_process_zero():
            write_json_atomically(path, results.to_dict())
            if not results.answer_accuracy:
                print(
                    f"Note: the model answers none of {len(spread)} test records {mode_name(self._thinking)}, so that "
                    "mode is not watched.",
                    file=sys.stderr,
                )
        self._trainer.accelerator.wait_for_everyone()

    def measure_after(self) -> EvaluationResult | None:
        """Evaluate again, and write a report beside that of the trained mode; `None` if the model has one mode."""
        if other_before(self._output) is None:
            return None
        assert self._run.splits.test is not None
        results = self._evaluate(list(self._run.splits.test))
        if self._trainer.is_world_process_zero():
            save_report(results, self._output / "evaluation_other_mode")
        return results

    def _evaluate(self, records: Sequence[Any]) -> EvaluationResult:
        options = {**self._run.evaluation.generation(self._thinking), **self._run.evaluation.sampling()}
        if not self._thinking:
            options["max_thought_tokens"] = None
        return evaluate_model(
            self._trainer.accelerator.unwrap_model(self._trainer.model),
            self._trainer.processing_class,
            records,
            seed=self._run.args.seed,
            instructions=self._run.instructions,
            **options,
        )


def mode_name(thinking: bool) -> str:
    """A mode in words."""
    return "with thinking" if thinking else "without thinking"


def other_before(output: str | Path) -> EvaluationResult | None:
    """The figures of the other mode before a round; `None` if the model does not have it."""
    path = Path(output, OTHER_BEFORE_FILE)
    if not path.is_file():
        return None
    results = EvaluationResult.from_dict(json.loads(path.read_text(encoding="utf-8")))
    return results if results.answer_accuracy else None
