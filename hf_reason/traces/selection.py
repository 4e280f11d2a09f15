"""Of the samples of a problem: its pass rate, the chains that become records, and pairs of a right and a wrong one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hf_reason.data.languages import detect_language
from hf_reason.data.record import record_id
from hf_reason.text.render import render, user_text

from .pruning import prune_steps
from .reading import Verified, first_wrong
from .settings import TraceSettings


@dataclass(frozen=True)
class Solved:
    """A problem with its samples.

    Attributes:
        record: The problem.
        samples: In the order of their numbers.
        pass_rate: Fraction of right samples among those with a verdict; one that was never finished is wrong. `None`
            without a verdict. A wrong step makes a sample wrong.
        kept: What becomes a record.
        pairs: Right and wrong chains.
        equal: Samples that would have been kept, but are equal to one before them.
        pruned: Steps that were left out.
    """

    record: Mapping[str, Any]
    samples: list[Verified]
    pass_rate: float | None
    kept: list[Verified]
    pairs: list[tuple[Verified, Verified]]
    equal: int
    pruned: int


def solve(record: Mapping[str, Any], samples: Sequence[Verified], settings: TraceSettings) -> Solved:
    """Choose among the samples of a problem.

    Args:
        record: The problem.
        samples: Its samples, verified.
        settings: What is kept.
    """
    judged = [sample for sample in samples if sample.correct is not None]
    rate = sum(sample.right for sample in judged) / len(judged) if judged else None
    good = [sample for sample in samples if sample.steps and sample.right]
    right = _distinct(good)
    found = [sample for sample in samples if sample.steps and sample.finished] if settings.keep == "all" else good
    kept = _distinct(found)
    equal = len(found) - len(kept)
    if settings.keep == "shortest_correct":
        kept = sorted(kept, key=lambda sample: sample.size)[:1]
    before = sum(len(sample.steps) for sample in kept)
    if settings.prune_steps:
        kept = [_pruned(sample, record, settings) for sample in kept]
    left_out = before - sum(len(sample.steps) for sample in kept)
    wrong = _distinct([sample for sample in samples if sample.finished and sample.steps and _is_wrong(sample)])
    pairs = paired(right, wrong, settings.pairs)
    return Solved(record, list(samples), rate, kept, pairs, equal, left_out)


def _is_wrong(sample: Verified) -> bool:
    return sample.correct is False or (sample.correct is True and sample.wrong_step is not None)


def _distinct(samples: Sequence[Verified]) -> list[Verified]:
    """The first of equal chains."""
    found: dict[tuple[str, ...], Verified] = {}
    for sample in samples:
        found.setdefault((*sample.steps, "", sample.answer), sample)
    return list(found.values())


def _pruned(sample: Verified, record: Mapping[str, Any], settings: TraceSettings) -> Verified:
    problem = f"{record['context']}\n{record.get('task') or ''}".strip()
    steps = prune_steps(sample.steps, sample.answer, problem)
    if len(steps) == len(sample.steps):
        return sample
    wrong = first_wrong(steps, sample.answer, problem, settings.verify_steps)
    return replace(sample, steps=steps) if sample.wrong_step is not None or wrong is None else sample


def paired(right: Sequence[Verified], wrong: Sequence[Verified], count: int) -> list[tuple[Verified, Verified]]:
    """Pairs of a right chain and a wrong one, each chain in one pair.

    The shortest right chain comes first. Its partner is the wrong chain whose length is nearest, so that length alone
    does not tell which is preferred.
    """
    pairs, left = [], list(wrong)
    for chain in sorted(right, key=lambda sample: sample.size)[:count]:
        if not left:
            break
        near = min(left, key=lambda other: (abs(other.size[0] - chain.size[0]), abs(other.size[1] - chain.size[1])))
        left.remove(near)
        pairs.append((chain, near))
    return pairs


def trace_of(solved: Solved, sample: Verified, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """A chain as a record, with the reference, the pass rate of its problem, its length, and where it comes from."""
    record = solved.record
    text = "\n".join((*sample.steps, sample.answer))
    return {
        "id": trace_id(record, sample),
        "context": record["context"],
        "task": record.get("task") or "",
        "steps": sample.steps,
        "answer": sample.answer,
        "domain": record.get("domain") or "general",
        "language": detect_language(text, f"{record['context']}\n{record.get('task') or ''}"),
        "source": record.get("source") or "",
        "reference_answer": record["answer"],
        "pass_rate": solved.pass_rate,
        "num_tokens": sample.num_tokens,
        "provenance": {**provenance, "problem": record["id"], "sample": sample.sample},
    }


def trace_id(record: Mapping[str, Any], sample: Verified) -> str:
    """The id that the record of a sample has, in every preparation."""
    return record_id(record["context"], record.get("task") or "", sample.answer)


def pair_of(solved: Solved, right: Verified, wrong: Verified, instructions: Mapping[str, str]) -> dict[str, Any]:
    """A pair in TRL's conversational preference format; other columns are left alone by its trainers."""
    record = solved.record

    def turn(sample: Verified) -> list[dict[str, str]]:
        chain = {**record, "steps": sample.steps, "answer": sample.answer}
        return [{"role": "assistant", "content": render(chain)["completion"]}]

    return {
        "prompt": [{"role": "user", "content": user_text(record, instructions)}],
        "chosen": turn(right),
        "rejected": turn(wrong),
        "id": record["id"],
        "pass_rate": solved.pass_rate,
        "rejected_for": "answer" if wrong.correct is False else f"step {wrong.wrong_step}",
    }


def prediction_of(record: Mapping[str, Any], sample: Verified) -> dict[str, Any]:
    """A sample as `hf-reason evaluate` writes predictions, without its text; `difficulty_from` reads them."""
    correct = None if sample.correct is None else sample.right
    return {
        "id": record["id"],
        "sample": sample.sample,
        "answer": sample.answer,
        "reference": record["answer"],
        "correct": correct,
        "closed": sample.finished,
        "wrong_step": sample.wrong_step,
        "num_tokens": sample.num_tokens,
        "trace": trace_id(record, sample) if sample.finished else None,
    }


class Counts:
    """What a run has come to."""

    def __init__(self) -> None:
        self.numbers: Counter[str] = Counter()
        self.histogram: Counter[str] = Counter()
        self.tokens = self.kept_tokens = 0

    def add(self, solved: Solved) -> None:
        """Count a problem."""
        numbers = self.numbers
        numbers["problems"] += 1
        numbers["solved"] += any(sample.right for sample in solved.samples)
        numbers["kept"] += len(solved.kept)
        numbers["equal"] += solved.equal
        numbers["pairs"] += len(solved.pairs)
        numbers["pruned_steps"] += solved.pruned
        self.kept_tokens += sum(sample.num_tokens for sample in solved.kept)
        self.histogram[rate_bin(solved.pass_rate)] += 1
        for sample in solved.samples:
            numbers["samples"] += 1
            numbers["never_closed"] += not sample.finished
            numbers["verified"] += sample.right
            numbers["undecidable"] += sample.finished and sample.correct is None
            numbers["wrong_answer"] += sample.finished and sample.correct is False
            numbers["wrong_step"] += sample.finished and sample.correct is True and sample.wrong_step is not None
            numbers["without_steps"] += sample.finished and not sample.steps
            self.tokens += sample.num_tokens


BINS = ("0", "0-25%", "25-50%", "50-75%", "75-100%", "100%", "no verdict")


def rate_bin(rate: float | None) -> str:
    """The bar of the histogram that a pass rate belongs to; always and never have bars of their own."""
    if rate is None:
        return BINS[-1]
    if rate in (0, 1):
        return BINS[0] if rate == 0 else BINS[5]
    return BINS[1 + min(3, int(rate * 4))]
