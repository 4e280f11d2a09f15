"""Rows of any content become traces or the error of a row, and never another error."""

import random

from hf_reason.data.read.detection import detect
from hf_reason.data.read.normal_rows import normal_row
from hf_reason.data.read.rows import SourceError

NAMES = (
    *("question", "prompt", "completion", "answer", "response", "output", "input", "instruction", "history", "steps"),
    *("messages", "conversation", "reasoning", "reasoning_content", "thinking", "cot", "generations", "choices"),
    *("options", "candidates", "message", "tools", "system", "context", "equation", "solution", "finish_reason"),
    *("info", "A", "B", "role", "content", "text", "问题", "答案", "思考过程", "body", "result", "request"),
)
TEXTS = (
    *("", "x", "长文本。\n第二行，还有更多的字，一直写。", "[1, 2]", "{'a': 1}", "nan", "True", "<think>a</think>b"),
    *("[{'role': 'user', 'content': 'x'}]", "\\boxed{7}", "a\n#### 7", "A. 1\nB. 2", "['a' 'b']"),
)
OTHERS = (None, True, 0, 7.5, float("nan"), [], {}, [None], [""], [[]], [{}])
ROLES = ("user", "assistant", "tool", "system", "x", None, 3, ["a"], {})


def some_value(rng: random.Random, depth: int = 0):
    kind = rng.randrange(13 if depth < 3 else 7)
    if kind < 6:
        return rng.choice(TEXTS)
    if kind == 6:
        return rng.choice(OTHERS)
    if kind < 9:
        return [some_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 9:
        return [
            {
                "role": rng.choice(ROLES),
                "content": some_value(rng, depth + 1),
                rng.choice(NAMES): some_value(rng, depth + 1),
            }
            for _ in range(rng.randrange(1, 4))
        ]
    if kind == 10:
        return {"role": some_value(rng, depth + 1), "content": some_value(rng, depth + 1)}
    if kind == 11:
        return {"choices": [{"message": some_value(rng, depth + 1), "finish_reason": some_value(rng, depth + 1)}]}
    keys = (*NAMES, "name", "arguments", "function", "type", "parts")
    return {rng.choice(keys): some_value(rng, depth + 1) for _ in range(rng.randrange(4))}


def test_no_row_ends_in_another_error():
    rng, read = random.Random(16), 0
    for _ in range(3000):
        row = {rng.choice(NAMES): some_value(rng) for _ in range(rng.randrange(1, 6))}
        try:
            values = normal_row(row)
            if (adapter := detect(values)) is not None:
                read += len(adapter.traces(values, rng.choice(("drop", "keep", "split"))))
        except SourceError:
            continue
    assert read > 50
