"""How well answers are judged: hf_reason's answers_match, math-verify alone and TRL's accuracy_reward on one table.

    python recipes/bench/bench_answers.py
    python recipes/bench/bench_answers.py --table my_pairs.yaml

The table (tests/answers/answer_pairs.yaml) has pairs that match and pairs that must not, by kind. Precision: of the
pairs that a side calls equal, the fraction that are; recall: of the equal pairs, the fraction that a side finds.
"open": pairs that a side does not decide. accuracy_reward gets the answer as a completion and the reference as
`solution`. math-verify and accuracy_reward want formulas marked: they get each pair as it is and in `$\\boxed{...}$`,
and the better verdict counts.
Our own table is no neutral judge; math-verify's tests are another one, of English formulas.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from common import parser

sys.path.append(str(Path(__file__).parents[2] / "tests" / "answers"))
from answer_table import TABLE, read_pairs

Judge = Callable[[str, str], bool | None]


def judges() -> dict[str, Judge]:
    """The sides by name."""
    from math_verify import parse, verify
    from trl.rewards import accuracy_reward

    from hf_reason.answers.verify import answers_match

    def math_verify(answer: str, reference: str) -> bool | None:
        gold, target = parse(reference), parse(answer)
        return bool(verify(gold, target)) if gold and target else None

    def trl_reward(answer: str, reference: str) -> bool | None:
        reward = accuracy_reward([[{"role": "assistant", "content": answer}]], [reference])[0]
        return None if reward is None else reward == 1.0

    def either(judge: Judge) -> Judge:
        return lambda answer, reference: (
            judge(answer, reference) or judge(rf"$\boxed{{{answer}}}$", rf"$\boxed{{{reference}}}$")
        )

    return {"answers_match": answers_match, "math-verify": either(math_verify), "accuracy_reward": either(trl_reward)}


def figures(pairs: list[tuple[bool, bool | None]]) -> str:
    """Precision, recall and undecided pairs of (whether they match, verdict)."""
    said = [same for same, verdict in pairs if verdict]
    wanted = [verdict for same, verdict in pairs if same]
    precision = f"{sum(said) / len(said):.3f}" if said else "  -  "
    recall = f"{sum(map(bool, wanted)) / len(wanted):.3f}" if wanted else "  -  "
    return f"{precision} {recall} {sum(verdict is None for _, verdict in pairs):4d}"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--table", type=Path, default=TABLE)
    pairs = list(read_pairs(options.parse_args().table))
    verdicts: dict[str, list[bool | None]] = {}
    seconds = {}
    for name, judge in judges().items():
        judge("1", "2")  # imports
        start = time.perf_counter()
        verdicts[name] = [judge(answer, reference) for _, answer, reference, _ in pairs]
        seconds[name] = time.perf_counter() - start
    print(f"{'precision, recall, open':<22}" + "".join(f"{name:>20}" for name in verdicts))
    for kind in [*dict.fromkeys(pair[0] for pair in pairs), "all"]:
        at = [number for number, pair in enumerate(pairs) if kind in (pair[0], "all")]
        cells = [figures([(pairs[number][3], found[number]) for number in at]) for found in verdicts.values()]
        print(f"{kind:<17} {len(at):4d}" + "".join(f"{cell:>20}" for cell in cells))
    print(f"{'ms a pair':<22}" + "".join(f"{1000 * spent / len(pairs):>20.2f}" for spent in seconds.values()))


if __name__ == "__main__":
    main()
