"""Every training command on two processes of a CPU: the losses of one process, or one line that says why not.

A few of them run with the other slow tests; `HF_REASON_PROCESSES=all` runs all, and `-s` prints the table.
"""

import os
import sys

import kill_cases
import pytest
from processes import WAYS, Processes, table, trainings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forks of one"),
]
ALL = os.environ.get("HF_REASON_PROCESSES") == "all"
NAMES = list(trainings(kill_cases.World(*[""] * 8)))
CHOSEN = [("distill, live", "fsdp2"), ("lora", "fsdp2")]
if ALL:
    CHOSEN = [(name, way) for name in NAMES for way in WAYS]
# What cannot be, with what is said.
REFUSED = {
    ("lora", "zero3"): "reads the whole model, which ZeRO-3 has cut: name the layers.",
    ("loar, with tasks", "zero3"): "run the whole model, which ZeRO-3 has cut: use ZeRO-2",
}
# ZeRO-3 makes each process's part of a new model by itself: other weights than those of one process.
OTHER_WEIGHTS = {("sft", "zero3")}


@pytest.fixture(scope="module")
def found():
    """What came out, printed at the end."""
    cells = {}
    yield cells
    print("\n" + table(cells))


@pytest.fixture(scope="module")
def outcome(forge, world, tmp_path_factory):
    """The outcome of a training in a way; each runs once."""
    known, processes = {}, Processes(forge, tmp_path_factory.mktemp("processes"))

    def of(name, way):
        if (name, way) not in known:
            known[name, way] = processes.run(name, trainings(world)[name], way)
        return known[name, way]

    return of


@pytest.mark.parametrize(("name", "way"), CHOSEN)
def test_two_processes_train_as_one(name, way, outcome, found):
    if way.startswith("zero"):
        pytest.importorskip("deepspeed")
    one, two = outcome(name, "one"), outcome(name, way)
    assert one.code == 0, one.log
    found[name, way] = f"{two.differs(one):.0e}" if two.code == 0 else f"code {two.code}: {two.said}"
    if (name, way) in REFUSED:
        assert two.code == 2 and REFUSED[name, way] in two.said, two.log
        return
    assert two.code == 0, two.log
    assert two.differs(one) < (0.2 if (name, way) in OTHER_WEIGHTS else 1e-4), (two.curves, one.curves)
