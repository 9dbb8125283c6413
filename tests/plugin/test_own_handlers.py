"""A signal handler of pytest's process raises while pytest waits for a test: that test fails, as in a plain run."""

from __future__ import annotations

import re

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")

WATCHDOG = """
    import signal, sys
    import pytest

    def bark(signum, frame):
        RAISES

    signal.signal(signal.SIGALRM, bark)

    def pytest_runtest_logstart(nodeid):
        if nodeid.endswith("test_long"): signal.setitimer(signal.ITIMER_REAL, 0.4)

    def pytest_runtest_logfinish(): signal.setitimer(signal.ITIMER_REAL, 0)

    @pytest.fixture(scope="session", autouse=True)
    def outer():
        yield
        print("torn down")
"""
TESTS = """
    import time
    def test_before(): pass
    def test_long(): time.sleep(3)
    def test_after(): pass
    def test_last(): pass
"""
WAYS = ["--isolate-all --isolate-jobs=1", "--isolate-all --isolate-jobs=2"]


@pytest.mark.parametrize("options", ["", *WAYS])
@pytest.mark.parametrize("raises", ["raise TimeoutError('too long')", "sys.exit(143)", "1 / 0"])
def test_the_test_fails_and_the_run_goes_on(project: Project, raises: str, options: str) -> None:
    project.write(conftest=WATCHDOG.replace("RAISES", raises), test_it=TESTS)
    result = project.run(*options.split(), "-rA", "--color=no")
    result.assert_outcomes(passed=3, failed=1)
    shown = re.compile(r"FAILED test_it.py::test_long - (TimeoutError: too long|SystemExit: 143|ZeroDivisionError: .*)")
    assert [line for line in result.outlines if shown.fullmatch(line)], result.outlines
    assert [line for line in result.outlines if line.startswith(">") and raises in line]
    assert result.outlines.count("torn down") == 1
    assert not [line for line in result.outlines if line.startswith("sandbox: ")]


@pytest.mark.parametrize("options", ["", *WAYS])
def test_the_run_ends_if_it_asks_for_that(project: Project, options: str) -> None:
    project.write(conftest=WATCHDOG.replace("RAISES", "pytest.exit('enough', 7)"), test_it=TESTS)
    result = project.run(*options.split())
    assert result.ret == 7
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*Exit: enough*"])
