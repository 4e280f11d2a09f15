"""The A/B test of a circle: the experiment that is named after the new version."""

from hf_reason.serving.experiment import Experiment, ExperimentError
from hf_reason.serving.experiment_result import Result
from hf_reason.serving.experiments import Experiments

from .plan import Plan


class VersionTest:
    """The experiment of a circle, in the server's file.

    Args:
        plan: Of the circle.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.name = plan, plan.version_b[0]
        self.experiments = Experiments(plan.experiments_file)

    def check(self) -> None:
        """Before hours of learning: could the test begin?

        Raises:
            ExperimentError: if another experiment runs on this model, or left another version in use.
        """
        plan, current = self.plan, self.plan.version_a[0]
        of_model = [each for each in self.experiments.all() if each.model == plan.model]
        if not of_model and plan.model != current:
            raise ExperimentError(
                f"nothing has made {current} the version that answers for {plan.model}: leave model out, or serve "
                f"{plan.model}={plan.version_a[1]}."
            )
        if not of_model or of_model[-1].name == self.name:
            return
        last = of_model[-1]
        if last.status == "running":
            raise ExperimentError(f"the experiment {last.name!r} runs on {plan.model}: end it first.")
        in_use = last.version_b if last.status == "promoted" else last.version_a
        if in_use != current:
            raise ExperimentError(
                f"{plan.model} is answered by {in_use!r} since {last.name!r} was {last.status}: give "
                f"model_name_or_path {in_use}=FOLDER, or another model."
            )

    def found(self) -> Experiment | None:
        """The experiment; `None` before it begins."""
        return next((each for each in self.experiments.all() if each.name == self.name), None)

    def ended(self) -> bool:
        """Whether it is promoted or rolled back."""
        found = self.found()
        return found is not None and found.status != "running"

    def versions(self) -> list[tuple[str, str]]:
        """What has to be served now; after a promotion both, so that `roll_back` has something to go back to."""
        found = self.found()
        alone = found is None or found.status == "rolled_back"
        return [self.plan.version_a] if alone else [self.plan.version_a, self.plan.version_b]

    def start(self) -> None:
        """Begin, if it has not begun."""
        args = self.plan.args
        if self.found() is None:
            self.experiments.start(
                self.name,
                model=self.plan.model,
                version_a=self.plan.version_a[0],
                version_b=self.name,
                fraction=args.fraction,
                alpha=args.alpha,
            )

    def result(self) -> Result:
        """What the outcomes say now."""
        return self.experiments.result(self.name)

    def is_enough(self) -> bool:
        """Whether a difference is shown, there are `max_outcomes`, or somebody has ended it."""
        result = self.result()
        return (
            result.better is not None or result.outcomes >= self.plan.args.max_outcomes or result.status != "running"
        )

    def decide(self) -> None:
        """Promote the new version if it is better, else roll it back; what somebody has ended stays."""
        if self.ended():
            return
        if self.result().better == "B":
            self.experiments.promote(self.name)
        else:
            self.experiments.roll_back(self.name)

    def close(self) -> None:
        """Close the file."""
        self.experiments.close()
