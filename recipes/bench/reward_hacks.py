"""What the rewards give to honest chains and to completions that try to get them without thinking.

    python recipes/bench/reward_hacks.py --problems 200

Word problems of `hf_reason.data.synthetic` (2 to 6 operations). Each hack is written for every problem, once with the
right answer (as if it had been guessed) and once with a wrong one. Printed: the mean of each reward, and of their sum.
Another file of problems: `--input FILE` with rows of `context`, `steps`, `answer`. `--speed 1000` measures the seconds
for so many long completions (the chains of about 15 problems in one, 1,000 tokens) instead; with 16 times as many
problems hardly any step occurs twice.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hf_reason.data.synthetic.word_problems import generate_word_problems
from hf_reason.rewards import (
    answer_reward,
    format_reward,
    get_length_reward,
    language_reward,
    repetition_reward,
    step_reward,
)
from hf_reason.text.render import render

LIMIT, BUFFER = 1024, 256
FUNCTIONS: Sequence[Callable[..., Any]] = (
    *(answer_reward, step_reward, format_reward, language_reward),
    *(get_length_reward(LIMIT, BUFFER), repetition_reward),
)
Row = dict[str, Any]


def written(row: Row, steps: Sequence[str], answer: str) -> str:
    """A completion in the project's form."""
    return render({**row, "steps": list(steps), "answer": answer})["completion"]


def _number(answer: str) -> int:
    """The whole number of an answer: 24 of 24个."""
    return int("".join(filter(str.isdigit, str(answer))) or 0)


def _slices(row: Row, answer: str) -> list[str]:
    """Many short steps: counting up to the answer, one at a time."""
    goal = _number(answer)
    return [f"{value}+1={value + 1}" for value in range(max(0, goal - 25), goal)]


def _wrong_last(row: Row, answer: str) -> list[str]:
    """Right steps, and a last one with another result."""
    left, _, _ = row["steps"][-1].rpartition("=")
    return [*row["steps"][:-1], f"{left}={answer}"]


def _english(steps: Sequence[str]) -> list[str]:
    return [
        f"so now we carefully compute the following quantity and obtain {step.rpartition('：')[2]}" for step in steps
    ]


def _wide(text: str) -> str:
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


# Each makes a completion from a row and the answer that it is to give.
HACKS: dict[str, Callable[[Row, str], str]] = {
    "answer without a thought": lambda row, answer: answer,
    "thought closed at once": lambda row, answer: f"<think>\n</think>\n\n{answer}",
    "empty steps": lambda row, answer: (
        "<think>\n" + "".join(f"步骤{n}:\n" for n in range(1, 6)) + f"</think>\n\n{answer}"
    ),
    "steps of dots": lambda row, answer: written(row, ["……"] * 5, answer),
    "prose without a calculation": lambda row, answer: written(row, ["我们仔细想一想题意", "于是得到结果"], answer),
    "copied problem": lambda row, answer: written(row, [row["context"]] * 4, answer),
    "copied problem and answer": lambda row, answer: written(row, [row["context"], f"答案是{answer}"], answer),
    "1+1=2 as filler": lambda row, answer: written(row, ["1+1=2"] * 8, answer),
    "varied filler": lambda row, answer: written(row, [f"{n}+{n}={2 * n}" for n in range(1, 9)], answer),
    "neutral operations": lambda row, answer: written(
        row, [f"{_number(answer)}+0={_number(answer)}", f"{_number(answer)}×1={_number(answer)}"], answer
    ),
    "first equation repeated": lambda row, answer: written(row, row["steps"][:1] * 10, answer),
    "first equation turned around": lambda row, answer: written(
        row, row["steps"][:1] + [_turned(row["steps"][0])] * 5, answer
    ),
    "many short steps": lambda row, answer: written(row, _slices(row, answer), answer),
    "answer in every step": lambda row, answer: written(row, [f"答案是{answer}"] * 6, answer),
    "wrong last step": lambda row, answer: written(row, _wrong_last(row, answer), answer),
    "wrong last step and filler": lambda row, answer: written(
        row, _wrong_last(row, answer) + [f"{n}+{n}={2 * n}" for n in range(1, 20)], answer
    ),
    "wrong last step, cut finely": lambda row, answer: written(
        row, [*_counted(row), *_wrong_last(row, answer)], answer
    ),
    "several </think>": lambda row, answer: (
        written(row, row["steps"], answer) + f"\n</think>\n{answer}\n</think>\n{answer}"
    ),
    "two thoughts": lambda row, answer: (
        written(row, row["steps"], answer) + "\n<think>\n再想想\n</think>\n\n" + answer
    ),
    "never closed": lambda row, answer: "<think>\n" + "".join(f"步骤{n}:{s}\n" for n, s in enumerate(row["steps"], 1)),
    "answer hidden at the thought's end": lambda row, answer: written(row, [*row["steps"], f"答案是{answer}"], ""),
    "many answers": lambda row, answer: written(row, row["steps"], "答案可能是" + "、".join(_around(answer))),
    "many boxes": lambda row, answer: written(
        row, row["steps"], " ".join(f"\\boxed{{{value}}}" for value in _around(answer))
    ),
    "answer or another": lambda row, answer: written(row, row["steps"], f"答案是{answer}或{_around(answer)[0]}"),
    "another language": lambda row, answer: written(row, _english(row["steps"]), answer),
    "full-width letters": lambda row, answer: written(row, [_wide(step) for step in _english(row["steps"])], answer),
    "numbers from nowhere": lambda row, answer: written(row, [f"9173+{n}={9173 + n}" for n in (211, 389)], answer),
}


def _turned(step: str) -> str:
    """The first step with its sides exchanged."""
    head, _, equation = step.rpartition("：")
    left, _, right = equation.partition("=")
    return f"{head}：{right}={left}"


def _counted(row: Row) -> list[str]:
    """The first result, counted up by right additions of 1 and down again."""
    start = int("".join(filter(str.isdigit, row["steps"][0].rpartition("=")[2])) or 10)
    return [f"{start + n}+1={start + n + 1}" for n in range(12)]


def _around(answer: str) -> list[str]:
    value = _number(answer)
    return [str(value + step) for step in (-1, 1, 2)] + [answer]


def problems(args: argparse.Namespace) -> list[Row]:
    """The rows: context, steps, answer."""
    if args.input:
        lines = Path(args.input).read_text(encoding="utf-8").splitlines()[: args.problems]
        return [json.loads(line) for line in lines]
    return [dict(row) for row in generate_word_problems(args.problems)]


def rewards(rows: Sequence[Row], completions: Sequence[str]) -> dict[str, list[float | None]]:
    """Each reward of each completion. A character counts as a token."""
    columns = {name: [row.get(name, "") for row in rows] for name in ("context", "task", "steps", "answer")}
    ids = [list(text) for text in completions]
    prompts = [render(row)["prompt"] for row in rows]
    return {
        function.__name__.removesuffix("_reward"): list(
            function(prompts=prompts, completions=list(completions), completion_ids=ids, **columns)
        )
        for function in FUNCTIONS
    }


def total(values: dict[str, list[float | None]], at: int) -> float:
    """What TRL makes of the rewards with weights of 1: their sum, without those that are `None`."""
    return sum(column[at] or 0.0 for column in values.values())


def wrong_answer(row: Row) -> str:
    """The answer, 7 too large."""
    return str(row["answer"]).replace(str(_number(row["answer"])), str(_number(row["answer"]) + 7), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--input", help="a JSONL file of problems with context, steps and answer")
    parser.add_argument("--speed", type=int, default=0, help="measure the seconds for so many long completions")
    args = parser.parse_args()
    rows = problems(args)
    if args.speed:
        _speed(rows, args.speed)
        return
    honest = rewards(rows, [written(row, row["steps"], row["answer"]) for row in rows])
    print(
        f"| completion | answer | {' | '.join(honest)} | sum | above honest |\n|---|---|{'---|' * (len(honest) + 2)}"
    )
    _line("honest", "right", honest, honest, len(rows))
    for name, hack in HACKS.items():
        for kind in ("right", "wrong"):
            texts = [hack(row, row["answer"] if kind == "right" else wrong_answer(row)) for row in rows]
            _line(name, kind, rewards(rows, texts), honest, len(rows))


def long_completion(rows: Sequence[Row], at: int, least: int = 700) -> str:
    """The chain of a problem, after those of others."""
    steps: list[str] = []
    other = at * 16
    while sum(map(len, steps)) < least:
        other += 1
        steps += rows[other % len(rows)]["steps"]
    return written(rows[at], steps + rows[at]["steps"], rows[at]["answer"])


def _speed(rows: Sequence[Row], count: int) -> None:
    chosen = [rows[at % len(rows)] for at in range(count)]
    texts = [long_completion(rows, at % len(rows)) for at in range(count)]
    columns = {name: [row.get(name, "") for row in chosen] for name in ("context", "task", "steps", "answer")}
    print(f"{count} completions of {sum(map(len, texts)) / count:.0f} characters")
    for function in (*FUNCTIONS, *FUNCTIONS[:1]):  # the first one again, when everything is loaded
        start = time.process_time()
        function(completions=texts, completion_ids=[list(text) for text in texts], **columns)
        print(f"{function.__name__}: {time.process_time() - start:.2f} s of CPU time")


def _line(name: str, kind: str, values: dict[str, list[float | None]], honest: Any, count: int) -> None:
    cells = []
    for column in values.values():
        known = [value for value in column if value is not None]
        cells.append(f"{sum(known) / len(known):.2f}" if known else "none")
    above = sum(total(values, at) > total(honest, at) + 1e-9 for at in range(count))
    mean = sum(total(values, at) for at in range(count)) / count
    print(f"| {name} | {kind} | {' | '.join(cells)} | {mean:.2f} | {above} |")


if __name__ == "__main__":
    main()
