"""The result of an evaluation: figures with names and types, written to and read from `evaluation.json`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from hf_reason.data.record import DOMAINS

_T = TypeVar("_T", bound="Figures")

_LENGTHS = ("mean_tokens", "median_tokens", "p95_tokens", "mean_steps")

# A field that is left out of the dictionary, and of the file, while it is None.
_OPTIONAL = {"optional": True}


class Figures(Mapping[str, Any]):
    """A dataclass that can also be read by name, as transformers' `ModelOutput` can.

    `result["step_accuracy"]`, `result.get("step_accuracy")` and `result.step_accuracy` are the same. Two results are
    equal when their dictionaries are.
    """

    def __getitem__(self, name: str) -> Any:
        if name not in tuple(self):
            raise KeyError(name)
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in {known.name for known in fields(self)}:  # type: ignore[arg-type]
            raise KeyError(f"{type(self).__name__} has no figure {name!r}.")
        setattr(self, name, value)

    def __iter__(self) -> Iterator[str]:
        for known in fields(self):  # type: ignore[arg-type]
            if not (known.metadata.get("optional") and getattr(self, known.name) is None):
                yield known.name

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain dictionaries, lists, texts and numbers, ready for JSON."""
        return {name: _plain(self[name]) for name in self}

    @classmethod
    def from_dict(cls: type[_T], data: Mapping[str, Any]) -> _T:
        """The inverse of `to_dict`. Missing keys (older files) get their default, unknown ones are dropped."""
        if isinstance(data, cls):
            return data
        known = {known.name for known in fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in data.items() if name in known and value is not None})


def _plain(value: Any) -> Any:
    if isinstance(value, Figures):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value


@dataclass(eq=False)
class LengthHistogram(Figures):
    """Lengths in tokens until the answer, in equal bins: bin i holds `edges[i] <= length < edges[i + 1]`.

    Attributes:
        edges: Edges of the bins, one more than there are bins; the first is 0.
        closed: In each bin, the outputs that wrote `</think>`.
        open: In each bin, the outputs that did not.
    """

    edges: list[int]
    closed: list[int]
    open: list[int]


@dataclass(eq=False)
class ReasoningLength(Figures):
    """How long the outputs reason until their answer begins.

    Attributes:
        mean_tokens, median_tokens, p95_tokens: In tokens, up to and including `</think>`; `None` if no output has it.
            Of a model that writes no tags: until the prose comes to its answer.
        mean_steps: In steps; likewise.
        histogram: In tokens; only over all outputs, not in the groups.
    """

    mean_tokens: float | None = None
    median_tokens: float | None = None
    p95_tokens: float | None = None
    mean_steps: float | None = None
    histogram: LengthHistogram | None = field(default=None, metadata=_OPTIONAL)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ReasoningLength":
        histogram = data.get("histogram")
        return super().from_dict({**data, "histogram": LengthHistogram.from_dict(histogram) if histogram else None})


@dataclass(eq=False)
class GroupResult(Figures):
    """The figures of a group of records; `None` stands where nothing can be said (`EvaluationResult.lack` tells why).

    Attributes:
        answer_accuracy: Fraction of right answers: mean over the samples of a record, then over the records.
        answer_accuracy_ci: Its 95% interval, [low, high], which counts records.
        step_accuracy: Correct steps / steps that can be checked, over all outputs together.
        equations_hold: Steps whose equations all hold / steps that can be checked.
        checkable_share: Steps that can be checked / steps.
        key_node_coverage: Key results of the references that occur in the outputs / key results.
        reasoning_length: Tokens and steps until the answer.
        close_rate: Fraction of the outputs that wrote `</think>` themselves; `None` if no output has tags.
        repeat_rate: Fraction of the outputs that loop.
        language_ratio: Mean fraction of Chinese characters in the outputs to Chinese problems.
        num_records: Number of records.
        num_scored: How many of them have an answer to compare with; only there where some have none.
    """

    answer_accuracy: float | None = None
    answer_accuracy_ci: list[float] | None = None
    step_accuracy: float | None = None
    equations_hold: float | None = None
    checkable_share: float | None = None
    key_node_coverage: float | None = None
    reasoning_length: ReasoningLength = field(default_factory=ReasoningLength)
    close_rate: float | None = None
    repeat_rate: float | None = None
    language_ratio: float | None = None
    num_records: int = 0
    num_scored: int | None = field(default=None, metadata=_OPTIONAL)

    @classmethod
    def from_dict(cls: type[_T], data: Mapping[str, Any]) -> _T:
        if isinstance(data, cls):
            return data
        return super().from_dict(  # type: ignore[misc]
            {**data, "reasoning_length": ReasoningLength.from_dict(data.get("reasoning_length") or {})}
        )


@dataclass(eq=False)
class EvaluationResult(GroupResult):
    """What `evaluate_model` returns: the figures over all records, those of each group, and how they came about.

    Attributes:
        by_domain: The figures of each domain, in the project's order.
        by_num_steps: The figures by number of steps of the reference: "0" to "10", "11-20", "21-40", "41+".
        distracted_accuracy: Answer accuracy with an irrelevant sentence in each problem; `None` unless measured.
        distractor_resistance: `distracted_accuracy / answer_accuracy`.
        num_samples: Outputs of each record.
        vote: Whether the most frequent answer of a record was scored, instead of each.
        seed: Of the sampling and of the distractors.
        template_hash: Of everything that shapes a prompt (`hf_reason.text.template_hash`).
        generation: The settings of generation that were in force.
        predictions: A dictionary for each output, in the order of records and samples; only if asked for.
    """

    by_domain: dict[str, GroupResult] = field(default_factory=dict)
    by_num_steps: dict[str, GroupResult] = field(default_factory=dict)
    distracted_accuracy: float | None = None
    distractor_resistance: float | None = None
    num_samples: int = 1
    vote: bool = False
    seed: int = 0
    template_hash: str | None = None
    generation: dict[str, Any] = field(default_factory=dict)
    predictions: list[dict[str, Any]] | None = field(default=None, metadata=_OPTIONAL, repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "EvaluationResult":
        """The inverse of `to_dict`; a result comes back as it is. Files written by earlier versions can be read.

        Raises:
            ValueError: if `data` are not results.
        """
        if isinstance(data, cls):
            return data
        if not isinstance(data, Mapping) or "answer_accuracy" not in data:
            raise ValueError("These are no results of evaluate_model: there is no 'answer_accuracy' in them.")
        groups = {
            name: {key: GroupResult.from_dict(group) for key, group in (data.get(name) or {}).items() if group}
            for name in ("by_domain", "by_num_steps")
        }
        return super().from_dict({**data, **groups})

    def lack(self, name: str) -> str | None:
        """Why a figure is `None`, or covers fewer records than there are; `None` if it lacks nothing.

        A figure that was not asked for (distractors), or does not apply (Chinese, where no problem is Chinese), lacks
        nothing.
        """
        if name == "answer_accuracy" and self.num_scored:
            return f"{self.num_scored} of {self.num_records} records have an answer to compare with"
        if name in _LENGTHS:
            # one that was not measured (an older file, a mean of several) lacks nothing
            unknown = getattr(self.reasoning_length, name) is None and self.close_rate == 0
            return "no output closed its thought" if unknown else None
        return self._why_missing(name)

    def _why_missing(self, name: str) -> str | None:
        if self[name] is not None:
            return None
        return {
            "answer_accuracy": "no record has an answer to compare with",
            "step_accuracy": "no step of the outputs states an equation",
            "equations_hold": "no step of the outputs states an equation",
            "checkable_share": "the outputs have no steps",
            "key_node_coverage": "no step of the references states an equation",
            "close_rate": "no output has a thought in tags, so the steps are those of the prose",
            "distractor_resistance": None
            if self.distracted_accuracy is None
            else "the accuracy without a distractor is 0",
        }.get(name)


def as_models(results: Mapping[str, Any]) -> dict[str, EvaluationResult]:
    """Results of one model, or of several by name, as results by name; dictionaries become `EvaluationResult`.

    Raises:
        ValueError: if something else is among them.
    """
    if "answer_accuracy" in results:
        return {"model": EvaluationResult.from_dict(results)}
    for name, single in results.items():
        if not isinstance(single, Mapping) or "answer_accuracy" not in single:
            raise ValueError(
                f"{name!r} does not hold results. Pass what evaluate_model returns, or a dict name -> such results."
            )
    return {name: EvaluationResult.from_dict(single) for name, single in results.items()}


def group_names(models: Mapping[str, EvaluationResult], group: str) -> list[str]:
    """The names in `by_domain` or `by_num_steps` (`group`) of all models, in the project's order of the domains, or by
    the number of steps; none by the number of steps if no reference has steps."""
    names = dict.fromkeys(name for single in models.values() for name in single[group])
    if group == "by_num_steps" and set(names) == {"0"}:
        return []
    return sorted(names, key=domain_order if group == "by_domain" else _first_number)


def domain_order(domain: str) -> tuple[int, str]:
    """Sorts domains in the project's order; unknown ones come last, by name."""
    return (DOMAINS.index(domain), "") if domain in DOMAINS else (len(DOMAINS), domain)


def _first_number(label: str) -> int:
    return int(label.rstrip("+").split("-")[0])
