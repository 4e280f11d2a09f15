"""Where outcomes of an experiment come from: references that requests carry, feedback, votes between answers."""

from .experiments import Experiments
from .feedback import Feedback, FeedbackStore, Served
from .metrics import Metrics
from .outcomes import outcome_of_answer, outcome_of_feedback

_WORDS = {1: "right", 0: "wrong", None: "undecided"}


class Judge:
    """Turns what is known of an answer into an outcome of its experiment, and counts it.

    Args:
        experiments: `None`: only the metrics count.
        metrics: Of the server.
    """

    def __init__(self, experiments: Experiments | None, metrics: Metrics) -> None:
        self.experiments, self.metrics = experiments, metrics

    def answered(self, answer: str, reference: str, *, model: str, arm: str, unit: str) -> int | None:
        """Compare an answer with its reference.

        Args:
            answer: As it was served.
            reference: The right one. It is neither kept nor logged.
            model, arm: Who answered.
            unit: To whom `Experiments.assign` gave the arm.

        Returns:
            1 or 0; `None` where the rules cannot decide, which is no outcome.
        """
        outcome = outcome_of_answer(answer, reference)
        self.metrics.verified.labels(model, arm, _WORDS[outcome]).inc()
        self._record(arm, unit, outcome, "answer")
        return outcome

    def said(self, feedback: Feedback, store: FeedbackStore) -> None:
        """What a feedback means for the experiment that its answer belongs to."""
        served = feedback.served
        # who asked was assigned to the arm, whoever says what the answer was worth
        asked = store.served(served.request_id, served.choice)
        unit = (asked.user if asked is not None else served.user) or served.request_id
        self._record(served.arm, unit, outcome_of_feedback(feedback), "feedback")

    def preferred(self, chosen: Served, rejected: Served, user: str) -> None:
        """A vote between two answers: an outcome of the running experiment between their models, if there is one."""
        if self.experiments is None:
            return
        versions = {chosen.model, rejected.model}
        running = [one for one in self.experiments.all() if one.status == "running"]
        found = next((one for one in running if {one.version_a, one.version_b} == versions), None)
        if found is None:
            return
        unit = user or chosen.user or min(chosen.request_id, rejected.request_id)
        arm = found.arm(unit)
        preferred = "A" if chosen.model == found.version_a else "B"
        if self.experiments.record_preference(found.name, unit, "A" if preferred == "A" else "B"):
            self.metrics.outcomes.labels(found.name, arm, str(int(preferred == arm))).inc()

    def _record(self, place: str, unit: str, outcome: int | None, source: str) -> None:
        name, _, arm = place.rpartition("/")
        if self.experiments is None or not name or outcome is None:
            return
        if self.experiments.record(name, unit, outcome, source):
            self.metrics.outcomes.labels(name, arm, str(outcome)).inc()
