"""What is killed, and what runs it: shared by the tests that break running commands."""

import dataclasses

import kill_cases
import pytest
from kills import Forge


@pytest.fixture(scope="session")
def forge():
    with Forge() as forge:
        yield forge


@pytest.fixture(scope="session")
def world(forge, tmp_path_factory, records, _session_tokenizer):
    """Models and data, with the cache of a teacher."""
    folder = tmp_path_factory.mktemp("world")
    server = kill_cases.Translator("translator")
    made = kill_cases.make_world(folder, records, _session_tokenizer, server.url)
    (case,) = (case for case in kill_cases.cases(made) if case.name == "cache-teacher")
    assert forge.wait(forge.start([*case.words, "--output_dir", "cache"], folder), 100) == 0
    yield dataclasses.replace(made, cache=str(folder / "cache"))
    server.close()
