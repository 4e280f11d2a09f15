"""How often each domain is drawn, and what its examples weigh so that the loss estimates what it should."""

from collections.abc import Mapping
from dataclasses import dataclass

from hf_reason.data.record import DOMAINS

_NAMES = (*DOMAINS, "other")


def domain_id(name: str | None) -> int:
    """The number of a domain in the column `domain_ids`; one that is not known is the last."""
    return DOMAINS.index(name) if name in DOMAINS else len(DOMAINS)


@dataclass(frozen=True)
class DomainPlan:
    """What becomes of each domain of a data set.

    Attributes:
        counts: Examples of each domain that has any, by domain id.
        ratios: Fraction of the draws, `q`; they sum to 1.
        weights: Factor of its examples' loss.
    """

    counts: dict[int, int]
    ratios: dict[int, float]
    weights: dict[int, float]

    def __str__(self) -> str:
        total = sum(self.counts.values())
        return "; ".join(
            f"{_NAMES[key]}: {count} examples ({count / total:.1%}), drawn {self.ratios[key]:.1%}, weight "
            f"{self.weights[key]:.3g}"
            for key, count in self.counts.items()
        )


def plan_domains(
    counts: Mapping[int, int],
    sizes: Mapping[int, float],
    *,
    temperature: float | None = None,
    ratios: Mapping[str, float] | None = None,
    target: str | Mapping[str, float] = "sampled",
) -> DomainPlan:
    """Draws and weights of importance sampling.

    A domain with `n_d` examples is drawn with the ratio `q_d`: as in the data, in proportion to `n_d ** (1 / T)`
    (`temperature`; 1 is as in the data, a large one evens out), or as `ratios` says. If the loss is to estimate
    another mixture `p` than the one it draws from, an example weighs `p_d / q_d` (importance sampling, Kahn and
    Marshall 1953): `E_q[w loss] = E_p[loss]`. The loss is a sum divided by the sum of the batch's token
    weights, whose mean is `sum_d q_d m_d` when drawn from `q` and `sum_d p_d m_d` when drawn from `p`; the weights
    carry that ratio too.

    Args:
        counts: Examples of each domain id.
        sizes: Mean sum of token weights of an example, by domain id: `m_d`.
        temperature: `T`, above 0.
        ratios: Fraction of each domain by name; they are brought to a sum of 1. Every domain of the data must be
            named.
        target: `"sampled"`: the mixture that is drawn (no weights); `"data"`: that of the data set; or ratios by name.

    Raises:
        ValueError: for a ratio of a domain without examples, a domain that is left out, or a target that needs a
            domain that is never drawn.
    """
    known = {key: count for key, count in sorted(counts.items()) if count}
    total = sum(known.values())
    data = {key: count / total for key, count in known.items()}
    if ratios is not None:
        drawn = _named_ratios("domain_ratios", ratios, known)
    else:
        drawn = _to_one({key: count ** (1 / (temperature or 1.0)) for key, count in known.items()})
    if target == "sampled":
        return DomainPlan(known, drawn, dict.fromkeys(known, 1.0))
    wanted = data if isinstance(target, str) else _named_ratios("domain_target", target, known)
    never = [_NAMES[key] for key in known if wanted[key] > 0 and drawn[key] == 0]
    if never:
        raise ValueError(f"domain_target needs {', '.join(never)}, whose ratio in domain_ratios is 0. Raise it.")
    ratio = sum(drawn[key] * sizes[key] for key in known) / sum(wanted[key] * sizes[key] for key in known)
    return DomainPlan(known, drawn, {key: ratio * wanted[key] / drawn[key] if drawn[key] else 0.0 for key in known})


def check_ratios(option: str, ratios: Mapping[str, float]) -> None:
    """Refuse what cannot be ratios, before there are data to compare them with.

    Raises:
        ValueError: for an unknown domain, or a value that is no ratio.
    """
    unknown = [name for name in ratios if name not in _NAMES]
    if unknown:
        raise ValueError(f"{option}: there is no domain {', '.join(unknown)}. Domains are {', '.join(_NAMES)}.")
    if any(not isinstance(value, int | float) or value < 0 for value in ratios.values()) or not sum(ratios.values()):
        raise ValueError(f"{option}: ratios are numbers of 0 and above, not all 0; got {dict(ratios)}.")


def _named_ratios(option: str, ratios: Mapping[str, float], counts: Mapping[int, int]) -> dict[int, float]:
    there = ", ".join(f"{_NAMES[key]} ({count})" for key, count in counts.items())
    empty = [name for name, value in ratios.items() if value > 0 and domain_id(name) not in counts]
    if empty:
        raise ValueError(f"{option}: the training data have no record of {', '.join(empty)}. There is: {there}.")
    missing = [_NAMES[key] for key in counts if _NAMES[key] not in ratios]
    if missing:
        raise ValueError(
            f"{option} does not name {', '.join(missing)}. There is: {there}. A ratio of 0 leaves a domain out."
        )
    return _to_one({key: float(ratios[_NAMES[key]]) for key in counts})


def _to_one(values: Mapping[int, float]) -> dict[int, float]:
    total = sum(values.values())
    return {key: value / total for key, value in values.items()}
