"""How well answers are judged: hf_reason's answers_match, math-verify alone and TRL's accuracy_reward on one table.

    python recipes/bench/bench_answers.py
    python recipes/bench/bench_answers.py --table my_pairs.yaml
    pip install lm-eval==0.4.13                            # adds the checkers of lm-evaluation-harness

The table (tests/answers/answer_pairs.yaml) has pairs that match and pairs that must not, by kind. Precision: of the
pairs that a side calls equal, the fraction that are; recall: of the equal pairs, the fraction that a side finds.
"open": pairs that a side does not decide. accuracy_reward gets the answer as a completion and the reference as
`solution`. math-verify and accuracy_reward want formulas marked: they get each pair as it is and in `$\\boxed{...}$`,
and the better verdict counts. lm-evaluation-harness: gsm8k's flexible-extract with its exact match, hendrycks_math's
is_equiv and minerva_math's (which wants antlr4-python3-runtime 4.11), where they can be imported.
Our own table is no neutral judge; math-verify's tests are another one, of English formulas.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml
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

    ours = {"answers_match": answers_match, "math-verify": either(math_verify), "accuracy_reward": either(trl_reward)}
    return {**ours, **harness_judges()}


def gsm8k_flexible() -> Judge:
    """The last number of the answer, compared as the task's settings say."""
    import lm_eval.tasks
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters.extraction import RegexFilter

    task = (Path(lm_eval.tasks.__file__).parent / "gsm8k" / "gsm8k.yaml").read_text(encoding="utf-8")
    settings = yaml.safe_load(task)
    (steps,) = [one["filter"] for one in settings["filter_list"] if one["name"] == "flexible-extract"]
    extract = RegexFilter(steps[0]["regex_pattern"], steps[0]["group_select"])
    ignored = settings["metric_list"][0]["regexes_to_ignore"]

    def judge(answer: str, reference: str) -> bool:
        found = extract.apply([[answer]], [{}])[0][0]
        scores = exact_match_hf_evaluate([found], [reference], regexes_to_ignore=ignored, ignore_case=True)
        return scores["exact_match"] == 1.0

    return judge


def hendrycks_math() -> Judge:
    from lm_eval.tasks.hendrycks_math.utils import process_results

    def judge(answer: str, reference: str) -> bool:
        # The text between its first and its last dollar sign counts.
        return bool(process_results({"solution": rf"\boxed{{{reference}}}"}, [f"${answer}$"])["exact_match"])

    return judge


def minerva_math() -> Judge:
    from lm_eval.tasks.minerva_math.utils import is_equiv, normalize_final_answer

    return lambda answer, reference: is_equiv(normalize_final_answer(answer), normalize_final_answer(reference))


def harness_judges() -> dict[str, Judge]:
    """The checkers of lm-evaluation-harness that can be imported; a line for each that cannot."""
    found = {}
    for name, make in (("gsm8k", gsm8k_flexible), ("hendrycks_math", hendrycks_math), ("minerva_math", minerva_math)):
        try:
            found[name] = make()
        except (ImportError, AssertionError) as error:
            print(f"{name} of lm-evaluation-harness is left out: {str(error)[:100]}")
    return found


def figures(pairs: list[tuple[bool | None, bool | None]]) -> str:
    """Precision, recall and undecided pairs of (whether they match, verdict), of those that can be decided."""
    pairs = [(same, verdict) for same, verdict in pairs if same is not None]
    said = [bool(same) for same, verdict in pairs if verdict]
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
