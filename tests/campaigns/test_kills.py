"""kill -9 of a whole process group at random moments: the same command goes on and ends as if nothing had been.

`HF_REASON_KILLS` is the number of kills of each command; see docs/reliability.md for what "the same" is.
"""

import dataclasses
import os
import sys

import kill_cases
import pytest
from kill_serve import ServeCampaign
from kills import KILLS, Campaign

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes that are left are found on Linux"),
]
NAMES = [case.name for case in kill_cases.cases(kill_cases.World(*[""] * 8)) if KILLS > 1 or not case.by_hand]


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_command_ends_as_one_that_was_not(name, forge, world, tmp_path):
    (case,) = (case for case in kill_cases.cases(world) if case.name == name)
    case = dataclasses.replace(case, alone=case.alone or bool(os.environ.get("HF_REASON_KILLS_ALONE")))
    Campaign(forge, tmp_path, case).run(KILLS)


def test_a_server_killed_under_load_keeps_what_it_has_said_and_accepted(forge, world, tmp_path, records):
    questions = [record["context"] for record in records[:6]]
    ServeCampaign(forge, tmp_path, world.base, questions).run(max(2, KILLS))
