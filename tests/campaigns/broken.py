"""What the campaigns of bad input share: their size and seed, values of every kind, and what an error may be."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

# Broken records of a whole campaign; the others are fractions of it.
EXAMPLES = int(os.environ.get("HF_REASON_FUZZ", "10000"))
SEED = 22


def sizes(quick: int, whole: int) -> pytest.MarkDecorator:
    """The test twice: a few examples in every run, and the campaign, which is slow."""
    return pytest.mark.parametrize("examples", [quick, pytest.param(whole, marks=pytest.mark.slow)])


def campaign(examples: int, strategy: Any, check: Callable[[Any], None]) -> None:
    """`check` on so many examples, the same ones in every run."""
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    # a campaign looks for one failure at a time, without a search for a smaller one
    phases = [Phase.explicit, Phase.generate, *([Phase.shrink] if examples < 1000 else [])]

    @seed(SEED)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=quiet, phases=phases)
    @given(strategy)
    def run(example: Any) -> None:
        check(example)

    run()


WEIRD_TEXTS = (
    *(
        "",
        " ",
        "\x00",
        "\u202e",
        "\ufeff",
        "\x1b[2J",
        "null",
        "NaN",
        "[]",
        "{}",
        "[1,",
        '{"a": 1',
        "<think>",
        "</think>",
    ),
    *("</think><think>", "步骤1:", "\\", "%s {0} {context}", "```", "$$", "=" * 50, "1/0=", "\n" * 50),
    *("9" * 400, "1e999", "-0", "0x10", "½", "９" * 30, "\ud800", "a" * 5000, "𝟙", "<|im_end|>", "<image>"),
)
texts = st.text(max_size=20) | st.sampled_from(WEIRD_TEXTS)
scalars = st.none() | st.booleans() | st.integers() | st.integers(-(10**40), 10**40) | st.floats() | texts
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


def is_of_the_user(error: BaseException) -> bool:
    """Whether a command would end in one line and not in a traceback."""
    from hf_reason.cli.errors import _is_of_the_user

    return _is_of_the_user(error)


def listing(folder: Path, without: Path | None = None) -> dict[str, str]:
    """Every file below a folder with a hash of its content, but those of one of its folders."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if without is not None and path.is_relative_to(without):
            continue
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found
