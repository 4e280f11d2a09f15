"""One sampled completion at each line of the log: its steps in colours, right and wrong, and its rewards."""

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text
from transformers import TrainerCallback

if TYPE_CHECKING:
    from hf_reason.trainers import StepGRPOTrainer

_MARKS = {True: ("+", "green"), False: ("x", "red"), None: (" ", "")}


class ShowSample(TrainerCallback):
    """Prints the first completion of the last generation batch, each once.

    Args:
        trainer: Keeps it as `sample`.
    """

    def __init__(self, trainer: "StepGRPOTrainer"):
        self._trainer = trainer
        self._shown: Any = None

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        sample = self._trainer.sample
        if state.is_world_process_zero and sample is not None and sample is not self._shown:
            self._shown = sample
            # not wider than what a pipe reads in a line
            console = Console(soft_wrap=True)
            for line in lines(sample):
                console.print(line)


def lines(sample: dict[str, Any]) -> list[Text]:
    """The completion: problem, steps (`+` right, `x` wrong, else nothing to check), answer, rewards."""
    from hf_reason.trainers.credit import problem_of

    chain = sample["chain"]
    found = [Text(f"Sampled: {problem_of(sample['example'])}", style="bold")]
    for number, (step, verdict) in enumerate(zip(chain.steps, sample["verdicts"], strict=True), start=1):
        mark, colour = _MARKS[None if verdict is None else verdict >= 0.5]
        found.append(Text(f"  {mark} {number}. {step}", style=colour))
    rewards = ", ".join(f"{name} {value:g}" for name, value in sample["rewards"].items())
    reference = sample["example"].get("answer")
    known = f" (reference: {reference})" if isinstance(reference, str) and reference.strip() else ""
    answer = chain.answer or ("(none: the thought was not closed)" if not chain.closed else "(none)")
    return [*found, Text(f"  Answer: {answer}{known}; {rewards}")]
