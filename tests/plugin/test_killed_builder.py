"""A builder that is killed costs no test, and leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_isolate.linux import waiting
from pytest_isolate.linux.flags import Clone
from pytest_isolate.plan.plan import Plan
from pytest_isolate.sandbox.builder import Builder
from pytest_isolate.spec.errors import SetupError
from tests.support.helper_processes import helpers_of
from tests.support.traces import NOTHING, settled

pytestmark = pytest.mark.needs("sandbox")


#: Kills the builder before that call of that method.
KILLER = """
import os, select, signal
from pytest_isolate.sandbox.builder import Builder
from pytest_isolate.session.sandbox_pool import Sandboxes

owner = Builder if hasattr(Builder, "{method}") else Sandboxes
real, left = owner.{method}, [{number}]

def killing(self, *arguments):
    builder = self if owner is Builder else self.builders.own
    left[0] -= 1
    if left[0] == 0:
        ended = os.pidfd_open(builder.pid)
        os.kill(builder.pid, signal.SIGKILL)
        select.select([ended], [], [])
        os.close(ended)
    return real(self, *arguments)

owner.{method} = killing
"""


def test_a_killed_builder_costs_no_test_and_leaves_nothing(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import os, signal, time
        import pytest
        from tests.support.helper_processes import builders_of

        def test_kills_the_builder():
            (builder,) = builders_of(os.getpid())
            os.kill(builder, signal.SIGKILL)

        @pytest.mark.isolate
        @pytest.mark.parametrize("number", range(3))
        def test_after_it(number):
            assert os.getpid() > 1
        """,
        test_a="""
        import pytest

        @pytest.mark.isolate
        def test_before():
            assert True
        """,
    )

    result = project.run()

    result.assert_outcomes(passed=5)
    assert settled() == NOTHING


@pytest.mark.parametrize(
    ("method", "number"), [("clean_up_after", 1), ("clean_up_after", 3), ("attempt", 1), ("check", 1)], ids=str
)
def test_a_builder_that_is_killed_while_the_host_is_looked_at_costs_no_test_and_leaves_nothing(
    project: Any, method: str, number: int
) -> None:
    """It has been told of some control groups by then, and has tried nothing, so it must not count as a lack."""
    project.pytester.makeconftest(
        KILLER.format(method=method, number=number)
        + f"""
def pytest_sessionfinish():
    assert left[0] <= 0 or {number} == 3  # with cgroup v2 there are two
"""
    )
    project.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.isolate
        @pytest.mark.parametrize("number", range(2))
        def test_runs(number):
            pass
        """
    )

    result = project.run("--isolate-unsupported=skip")

    result.assert_outcomes(passed=2)
    assert settled() == NOTHING


@pytest.mark.parametrize(("method", "number"), [("clean_up_after", 1), ("attempt", 1), ("get", 2)], ids=str)
def test_nor_does_it_cost_the_sandbox_of_the_session(project: Any, method: str, number: int) -> None:
    project.write(killer=KILLER.format(method=method, number=number), test_it="def test_it(): pass")
    program = [sys.executable, "-m", "pytest", *project.options, "-p", "killer", "--isolate-session"]

    done = subprocess.run(program, cwd=project.path, capture_output=True, text=True, check=False)

    assert "isolate: session in a sandbox" in done.stdout, done
    assert done.returncode == 0
    assert settled() == NOTHING


@pytest.mark.needs("strace")
def test_an_init_that_has_not_asked_for_the_builders_end_yet_ends_with_it_all_the_same() -> None:
    """It is held up at its very first system call, until the builder has been killed."""
    builder = Builder()
    delay = "inject=prctl:delay_enter=1000000:when=1"
    strace = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=prctl", "-e", delay, "-p", str(builder.pid)]
    )
    try:
        wait_until(lambda: f"TracerPid:\t{strace.pid}" in Path(f"/proc/{builder.pid}/status").read_text())
        builder.ask(builder.add(Plan(namespaces=Clone.NEWPID)))
        wait_until(lambda: len(helpers_of(os.getpid(), b"isolate-builder")) == 2)

        os.kill(builder.pid, signal.SIGKILL)

        wait_until(lambda: not helpers_of(os.getpid(), b"isolate-builder"))
    finally:
        strace.kill()
        strace.wait()
        for left in helpers_of(os.getpid(), b"isolate-builder"):
            os.kill(left, signal.SIGKILL)
        builder.abandon()


def wait_until(come: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not come():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_builder_whose_socket_has_ended_has_died_though_its_end_cannot_be_seen_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    builder = Builder()
    os.kill(builder.pid, signal.SIGKILL)
    with monkeypatch.context() as patched:
        readable = waiting.readable  # but for the pidfd
        patched.setattr(waiting, "readable", lambda fd, *_, seconds: readable(fd, seconds=seconds))

        with pytest.raises(SetupError, match="cannot reach the builder process"):
            builder.get(1)

        assert not builder.alive()
    builder.close()
