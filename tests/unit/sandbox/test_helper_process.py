"""Processes beside this one: they are not its children, and each wait for one has an end."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pytest_isolate.linux.procfs import state
from pytest_isolate.sandbox import helper_process
from pytest_isolate.sandbox.helper_process import HelperProcess
from pytest_isolate.spec.errors import SetupError

pytestmark = pytest.mark.timeout(30)

ECHO = """
import os, signal, socket, sys, time
os.setsid()
control = socket.socket(fileno=3)
while message := control.recv(100):
    if message == b"stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif message == b"end late":
        time.sleep(100)
    else:
        control.send(message)
"""


def start(code: str = ECHO) -> HelperProcess:
    program = [sys.executable, "-I", "-S", "-c", code, f"for={os.getpid()}"]
    return HelperProcess("echo", program[0], program, os.environ)


@pytest.fixture
def echo() -> Iterator[HelperProcess]:
    with closing(start()) as process:
        yield process


def fields(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def lives(pid: int) -> bool:
    """Whether it has not ended; where init is slow, it is still to be reaped."""
    return state(pid) not in ("", "Z")


def test_it_answers_and_ends_with_what_it_is_given(echo: HelperProcess) -> None:
    echo.send(b"hello")

    assert echo.receive(100, awaited="for an echo") == (b"hello", [], True)
    assert echo.alive()
    echo.close()
    assert not echo.alive()
    assert not lives(echo.pid)


def test_it_is_neither_child_nor_in_the_session_of_this_process(echo: HelperProcess) -> None:
    parent, _, session = map(int, fields(echo.pid)[1:4])

    assert parent != os.getpid()
    assert session != os.getsid(0)
    with pytest.raises(ChildProcessError):
        os.waitpid(echo.pid, os.WNOHANG)


def test_where_orphans_come_to_this_process_it_ends_without_a_zombie() -> None:
    code = f"""
import ctypes, os, sys
sys.path[:] = {sys.path!r}
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
from tests.unit.sandbox.test_helper_process import start
process = start()
assert os.waitpid(process.pid, os.WNOHANG) == (0, 0)
process.close()
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    os._exit(0)
"""
    assert os.waitstatus_to_exitcode(os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) << 8) == 0


def test_one_that_does_not_answer_is_killed_and_it_is_told_what_was_waited_for(
    echo: HelperProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper_process, "ANSWER_SECONDS", 0.2)
    echo.send(b"stop")

    with pytest.raises(SetupError, match=r"cannot get an answer from the echo .*ETIMEDOUT.* 0.2 s for an echo") as told:
        echo.receive(100, awaited="for an echo")

    assert told.value.errno == errno.ETIMEDOUT
    assert not echo.alive()
    assert not lives(echo.pid)


def test_one_that_reads_nothing_is_killed(echo: HelperProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper_process, "ANSWER_SECONDS", 0.2)
    echo.send(b"stop")

    def fill() -> None:
        for _ in range(100_000):
            echo.send(b"more")

    with pytest.raises(SetupError, match="to take a message"):
        fill()

    assert not echo.alive()


def test_one_that_does_not_end_is_killed(echo: HelperProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper_process, "END_SECONDS", 0.2)
    echo.send(b"end late")

    echo.close()

    assert not lives(echo.pid)


@pytest.mark.parametrize("again", [1, 2])
def test_one_that_was_killed_is_told_by_the_same_words_each_time(echo: HelperProcess, again: int) -> None:
    os.kill(echo.pid, signal.SIGKILL)

    def ask() -> None:
        for _ in range(1000):  # it may answer some before it dies
            echo.send(b"hello")
            echo.receive(100, awaited="for an echo")

    for _ in range(again):
        with pytest.raises(SetupError, match=rf"cannot reach the echo on pid {echo.pid}: EPIPE .*was it killed"):
            ask()


def test_an_interrupt_while_an_answer_is_awaited_makes_it_useless(echo: HelperProcess) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            echo.receive(100, awaited="for an echo")
    finally:
        signal.signal(signal.SIGALRM, before)

    assert not echo.alive()


def test_a_signal_with_a_handler_does_not_end_the_wait(echo: HelperProcess) -> None:
    heard = []

    def hear(*_: object) -> None:
        heard.append(1)
        echo.send(b"hello")

    before = signal.signal(signal.SIGALRM, hear)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        message, _, _ = echo.receive(100, awaited="for an echo")
    finally:
        signal.signal(signal.SIGALRM, before)

    assert (message, heard) == (b"hello", [1])


def test_a_program_that_cannot_be_executed_is_named() -> None:
    with pytest.raises(SetupError, match=re.escape("cannot start the echo on /none/such: ENOENT")):
        HelperProcess("echo", "/none/such", ["such"], {})


def test_many_starts_leave_no_descriptor_and_no_process() -> None:
    before = len(os.listdir("/proc/self/fd"))
    processes = [start() for _ in range(5)]
    for process in processes:
        process.close()

    assert len(os.listdir("/proc/self/fd")) == before
    deadline = time.monotonic() + 5
    while any(lives(process.pid) for process in processes):
        assert time.monotonic() < deadline
