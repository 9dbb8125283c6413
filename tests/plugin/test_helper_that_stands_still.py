"""A helper process that does not answer costs one test, which says so: nobody waits for it for ever."""

from __future__ import annotations

import pytest

from tests.support.project import Project
from tests.support.traces import NOTHING, settled

pytestmark = [pytest.mark.needs("sandbox"), pytest.mark.timeout(120)]

SHORT = """
from pytest_isolate.sandbox import helper_process
helper_process.ANSWER_SECONDS = 5.0
helper_process.END_SECONDS = 1.0
"""
STOPPED = """
import os, signal, pytest
from tests.support.helper_processes import helpers_of, builders_of

@pytest.mark.isolate(MARK)
def test_before(): pass

@pytest.mark.no_isolate
def test_stops_it():
    found = FOUND
    assert found
    for pid in found: os.kill(pid, signal.SIGSTOP)

@pytest.mark.isolate(MARK)
def test_a(): pass

@pytest.mark.isolate(MARK)
def test_b(): pass

@pytest.mark.isolate(MARK)
def test_c(): pass
"""


@pytest.mark.parametrize(
    ("mark", "found", "told"),
    [
        ("", "builders_of(os.getpid())", "*cannot get an answer from the builder process*ETIMEDOUT*5 s for a sandbox*"),
        (
            'network="bridge"',
            "helpers_of(os.getpid(), b'network.broker')",
            "*cannot get an answer from the broker of networks*ETIMEDOUT*5 s to do this: *",
        ),
    ],
    ids=["builder", "broker"],
)
def test_one_that_stands_still_is_killed_and_the_next_test_has_a_new_one(
    project: Project, mark: str, found: str, told: str
) -> None:
    project.patience = 60
    project.write(conftest=SHORT, test_it=STOPPED.replace("MARK", mark).replace("FOUND", found))

    result = project.run("--isolate-jobs=1")

    result.assert_outcomes(passed=4, errors=1)
    result.stdout.fnmatch_lines([told])
    assert settled() == NOTHING


def test_the_end_of_a_run_does_not_wait_for_one_that_stands_still(project: Project) -> None:
    project.patience = 60
    until_it_is_stopped, _, _ = STOPPED.partition("@pytest.mark.isolate(MARK)\ndef test_a")
    source = until_it_is_stopped.replace("MARK", "").replace("FOUND", "builders_of(os.getpid())")
    project.write(conftest=SHORT, test_it=source)

    project.run().assert_outcomes(passed=2)

    assert settled() == NOTHING
