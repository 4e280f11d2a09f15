"""The sequential test of `hf_reason.serving`: its error rate without a difference, and how many outcomes it needs.

    python recipes/bench/bench_experiments.py [--runs 2000] [--power_runs 500] [--seed 0]

Every run is looked at after each outcome. Prints the tables of docs/experiments.md.
"""

import argparse
import math

from hf_reason.serving.sequential import simulate

# (success rate, fraction of B)
_SAME = ((0.5, 0.5), (0.9, 0.5), (0.5, 0.1), (0.9, 0.1))
# Rate of A; B is better by each of the differences.
_RATES, _DIFFERENCES, _FRACTIONS = (0.5, 0.7), (0.05, 0.10, 0.20), (0.5, 0.1)
_SAME_OUTCOMES = 5000


def fixed_size(rate_a: float, rate_b: float, fraction: float, power: float = 0.8) -> int:
    """Outcomes of the usual test with one look at the end, alpha 0.05, two-sided (normal approximation)."""
    spread = rate_b * (1 - rate_b) / fraction + rate_a * (1 - rate_a) / (1 - fraction)
    assert power == 0.8
    return math.ceil((1.959964 + 0.841621) ** 2 * spread / (rate_b - rate_a) ** 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--power_runs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"No difference: {args.runs} runs of {_SAME_OUTCOMES:,} outcomes, alpha 0.05\n")
    print("| both rates | users of B | runs that found a difference |\n|---|---|---|")
    for rate, fraction in _SAME:
        found = simulate(rate, rate, fraction=fraction, runs=args.runs, max_outcomes=_SAME_OUTCOMES, seed=args.seed)
        print(f"| {100 * rate:.0f}% | {100 * fraction:.0f}% | {100 * found.decided:.1f}% |", flush=True)
    print(f"\nA difference: {args.power_runs} runs\n")
    print(
        "| A | B | users of B | outcomes on average | half decided | 90% decided | decided | one look at 80% power |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for fraction in _FRACTIONS:
        for rate in _RATES:
            for difference in _DIFFERENCES:
                usual = fixed_size(rate, rate + difference, fraction)
                found = simulate(
                    rate,
                    rate + difference,
                    fraction=fraction,
                    runs=args.power_runs,
                    max_outcomes=10 * usual,
                    seed=args.seed,
                )
                half, most = (f"{value:,}" if value else "-" for value in found.quantiles)
                print(
                    f"| {100 * rate:.0f}% | {100 * (rate + difference):.0f}% | {100 * fraction:.0f}% | "
                    f"{found.mean_outcomes:,.0f} | {half} | {most} | {100 * found.decided:.1f}% | {usual:,} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
