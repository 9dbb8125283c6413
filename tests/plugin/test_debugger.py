"""A debugger at pytest's terminal works on the test in its sandbox: by --pdb, --trace and ``breakpoint()``."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")

#: Gives a command a terminal, and sends it what comes on stdin as if it was typed.
_WITH_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


class Person:
    """Somebody at the terminal that pytest was started from."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.seen = b""  #: all that was shown
        self._read = 0  #: up to where it has been read

    def waits_for(self, text: str) -> str:
        """What is shown up to and including ``text``."""
        if not self._shows(text, time.monotonic() + 60):
            pytest.fail(f"{text!r} was not shown, but this: {self.seen.decode(errors='replace')}")
        begin, self._read = self._read, self.seen.index(text.encode(), self._read) + len(text)
        return self.seen[begin : self._read].decode()

    def _shows(self, text: str, deadline: float) -> bool:
        assert self._process.stdout is not None
        while text.encode() not in self.seen[self._read :]:
            ready = select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))[0]
            piece = os.read(self._process.stdout.fileno(), 1 << 16) if ready else b""
            if not piece:
                return False
            self.seen += piece
        return True

    def types(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def answer(self, command: str) -> str:
        """What the debugger answers to ``command``."""
        self.types(f"{command}\n")
        return self.waits_for("(Pdb) ")

    def interrupts_until(self, text: str) -> None:
        """Presses Ctrl-C; again if it fell between prompt and reading, where Python's readline overlooks it."""
        for _ in range(10):
            self.types("\x03")
            if self._shows(text, time.monotonic() + 2):
                break
        self.waits_for(text)

    def status(self) -> int:
        return self._process.wait(60)


@contextmanager
def at_a_terminal(project: Project, *options: str) -> Iterator[Person]:
    pytest_command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *project.options, "--isolate-all"]
    process = subprocess.Popen(
        [sys.executable, "-c", _WITH_TERMINAL, *pytest_command, *options],
        cwd=project.path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    with process:
        try:
            yield Person(process)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


FAILING = """
    import os

    def test_fails():
        answer = 42
        assert answer == 0

    def test_next(): pass
"""


@pytest.mark.parametrize("options", [[], ["--isolate-session"]])
def test_pdb_stops_in_the_failing_frame_inside_the_sandbox_and_the_run_goes_on(
    project: Project, options: list[str]
) -> None:
    project.write(test_it=FAILING)
    with at_a_terminal(project, "--pdb", *options) as person:
        assert "assert answer == 0" in person.waits_for("(Pdb) ")
        assert "84" in person.answer("p answer * 2")
        assert "'isolated'" in person.answer("p os.uname().nodename")
        person.types("c\n")
        person.waits_for("1 failed, 1 passed")
        assert person.status() == pytest.ExitCode.TESTS_FAILED


def test_quitting_the_debugger_ends_the_run(project: Project) -> None:
    project.write(test_it=FAILING)
    with at_a_terminal(project, "--pdb") as person:
        person.waits_for("(Pdb) ")
        person.types("q\n")
        person.waits_for("Exit: Quitting debugger")
        person.waits_for("1 failed")
        assert person.status() == pytest.ExitCode.INTERRUPTED


def test_trace_stops_at_the_first_line_inside_the_sandbox(project: Project) -> None:
    project.write(test_it=FAILING)
    with at_a_terminal(project, "--trace", "-k", "test_fails") as person:
        person.waits_for("(Pdb) ")
        assert "'isolated'" in person.answer("p os.uname().nodename")
        person.answer("n")
        assert "42" in person.answer("p answer")
        person.types("c\n")
        person.waits_for("1 failed")


def test_breakpoints_of_tests_that_run_side_by_side_have_the_terminal_one_after_the_other(project: Project) -> None:
    project.write(
        test_it="""
        import pytest
        @pytest.mark.parametrize("number", [1, 2])
        def test_it(number):
            breakpoint()
            assert number
        """
    )
    with at_a_terminal(project, "--isolate-jobs=2") as person:
        for number in (1, 2):
            person.waits_for("(Pdb) ")
            assert str(number * 111) in person.answer("p number * 111")
            person.types("c\n")
        person.waits_for("2 passed")


@pytest.mark.parametrize("options", [[], ["--isolate-session"]])
def test_a_breakpoint_suspends_the_time_out_and_ctrl_c_is_for_the_debugger(
    project: Project, options: list[str]
) -> None:
    project.write(
        test_it="""
        import time
        def test_it():
            answer = 42
            breakpoint()
            assert answer == 42
        """
    )
    with at_a_terminal(project, "--isolate-timeout=1", *options) as person:
        person.waits_for("(Pdb) ")
        person.answer("time.sleep(1.5)")
        person.interrupts_until("--KeyboardInterrupt--")
        person.waits_for("(Pdb) ")
        assert "42" in person.answer("p answer")
        person.types("c\n")
        person.waits_for("1 passed")
        assert person.status() == pytest.ExitCode.OK


def test_ctrl_c_while_a_debugged_test_goes_on_ends_the_run(project: Project) -> None:
    project.write(
        test_it="""
        import time
        def test_it():
            breakpoint()
            print("goes on")
            while True: time.sleep(0.1)
        """
    )
    with at_a_terminal(project, "-s") as person:
        person.waits_for("(Pdb) ")
        person.types("c\n")
        person.waits_for("goes on\r")
        time.sleep(0.3)  # until print() has returned: pdb of Python 3.10 prints in its signal handler
        person.types("\x03")
        # pdb, told to continue, breaks again on Ctrl-C, as in a plain run
        person.waits_for("(Pdb) ")
        person.types("q\n")
        person.waits_for("Exit: Quitting debugger")
        assert person.status() == pytest.ExitCode.INTERRUPTED


def test_what_fails_outside_of_the_sandbox_is_debugged_there(project: Project) -> None:
    project.write(
        test_it="""
        import os, pytest
        @pytest.fixture(scope="module")
        def wide():
            yield
            answer = 42
            assert answer == 0
        def test_it(wide): pass
        """
    )
    outside = os.uname().nodename
    with at_a_terminal(project, "--pdb") as person:
        person.waits_for("(Pdb) ")
        assert "42" in person.answer("p answer")
        assert repr(outside) in person.answer("p os.uname().nodename")
        person.types("c\n")
        person.waits_for("1 passed, 1 error")
