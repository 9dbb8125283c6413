"""Sockets and pipes of pytest's process are one for all forks: tests that talk through them run one at a time."""

from __future__ import annotations

import pytest

from tests.support.project import TWO_SLOW_TESTS, Project

pytestmark = pytest.mark.needs("sandbox")

TALK = """
import socket, subprocess, sys, time
import pytest

ECHO = "import os, sys\\nwhile data := os.read(int(sys.argv[1]), 100): os.write(int(sys.argv[2]), data)"

def talk(send, receive, number):
    for turn in range(3):
        send(b"%d-%d" % (number, turn))
        time.sleep(0.1)
        assert receive(100) == b"%d-%d" % (number, turn)
"""
SOCKET = """
@pytest.fixture(scope="session")
def pair():
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    number = str(theirs.fileno())
    process = subprocess.Popen([sys.executable, "-c", ECHO, number, number], pass_fds=[theirs.fileno()])
    theirs.close()
    yield ours.sendall, ours.recv
    ours.close()
    process.wait()
"""
PIPES = """
@pytest.fixture(scope="module")
def pair():
    command = [sys.executable, "-c", ECHO, "0", "1"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    yield process.stdin.write, process.stdout.read
    process.stdin.close()
    process.wait()
    process.stdout.close()
"""
AT_IMPORT = """
OURS, THEIRS = socket.socketpair()
THEIRS.settimeout(10)

@pytest.fixture
def pair():
    return OURS.sendall, THEIRS.recv
"""
TEST = """
{mark}
@pytest.mark.parametrize("number", range(3))
def test_it(pair, number):
    talk(*pair, number)
"""


@pytest.mark.parametrize("fixture", [SOCKET, PIPES, AT_IMPORT], ids=["socket", "pipes", "at import"])
def test_tests_that_share_a_connection_run_one_at_a_time(project: Project, fixture: str) -> None:
    project.write(test_it=TALK + fixture + TEST.format(mark=""))
    project.isolated("--isolate-jobs=3").assert_outcomes(passed=3)


def test_those_that_say_so_share_it_nevertheless(project: Project) -> None:
    hasty = AT_IMPORT.replace("settimeout(10)", "settimeout(1)")
    project.write(test_it=TALK + hasty + TEST.format(mark="@pytest.mark.isolate(exclusive=False)"))
    result = project.isolated("--isolate-jobs=3")
    assert result.parseoutcomes().get("failed"), result.outlines


@pytest.mark.parametrize(
    "opened",
    [
        "LISTENER = socket.socket(socket.AF_UNIX); LISTENER.bind('server'); LISTENER.listen()",
        "for each in socket.socketpair(): each.close()",
        "from multiprocessing import resource_tracker; resource_tracker.ensure_running()",
    ],
    ids=["server", "closed", "by which multiprocessing talks to its own"],
)
def test_what_takes_nothing_from_another_test_keeps_none_waiting(project: Project, opened: str) -> None:
    project.write(test_it=f"import socket\n{opened}\n{TWO_SLOW_TESTS}")
    one, other = project.spans("--isolate-jobs=2")
    assert other[0] < one[1]
