"""Suites that end all children of their process, or wait for any of them: they meet none of ours."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.support.project import Project

pytestmark = [pytest.mark.needs("sandbox"), pytest.mark.timeout(120)]

NEXT = """
    def test_three(): pass
    def test_four(): pass
"""
#: Whom to find: as psutil does, all that descend from this process; or by what is in /proc.
DESCENDANTS = """
def descendants(first):
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = open(f"/proc/{entry}/stat").read().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry)] = int(fields[1]), int(fields[3])
    found = [first]
    for one in found:
        found += [pid for pid, (parent, _) in parents.items() if parent == one]
    return found[1:]

def ours_in_this_session():
    found = []
    for path in glob.glob("/proc/[0-9]*"):
        try:
            with open(f"{path}/cmdline", "rb") as file: words = file.read().split(b"\\0")
            if b"for=%d" % os.getpid() in words and os.getsid(int(path[6:])) == os.getsid(0):
                found.append(words)
        except OSError: continue
    return found
"""


def teardown(scope: str, *lines: str) -> str:
    body = "\n".join(f"    {line}" for line in lines)
    return f"""
import glob, os, signal, time
import pytest
{DESCENDANTS}
@pytest.fixture(scope="{scope}", autouse=True)
def reap():
    yield
{body}
class TestBoth:
    def test_one(self): pass
    def test_two(self): pass
"""


@pytest.mark.parametrize("scope", ["class", "module", "session"])
@pytest.mark.parametrize("options", [[], ["--isolate-network=bridge"]], ids=["plain", "bridge"])
def test_no_process_of_ours_is_seen_by_a_tear_down(project: Project, scope: str, options: list[str]) -> None:
    lines = ["assert descendants(os.getpid()) == []", "assert ours_in_this_session() == []"]
    project.patience = 60
    project.write(test_a=teardown(scope, *lines), test_b=NEXT)

    project.isolated(*options).assert_outcomes(passed=4)


@pytest.mark.parametrize("scope", ["class", "module", "session"])
def test_a_fixture_that_waits_for_any_child_finds_none(project: Project, scope: str) -> None:
    waits = [
        "pytest.raises(ChildProcessError, os.wait)",
        "pytest.raises(ChildProcessError, os.waitpid, -1, 0)",
        "pytest.raises(ChildProcessError, os.waitid, os.P_ALL, 0, os.WEXITED)",
    ]
    project.patience = 60
    project.write(test_a=teardown(scope, *waits), test_b=NEXT)

    project.isolated().assert_outcomes(passed=4)


@pytest.mark.parametrize("options", [[], ["-n2"]], ids=["alone", "-n2"])
@pytest.mark.parametrize("how", ["c.kill()", "(c.terminate(), c.wait())"])
def test_a_tear_down_that_ends_all_children_by_psutil_harms_nobody(
    project: Project, how: str, options: list[str]
) -> None:
    pytest.importorskip("psutil")
    if options:
        pytest.importorskip("xdist")
    project.patience = 60
    lines = ["import psutil", "for c in psutil.Process().children(recursive=True):", f"    {how}"]
    project.write(test_a=teardown("module", *lines), test_b=NEXT)

    project.isolated(*options).assert_outcomes(passed=4)


#: Ends every process that works for this pytest, whatever its parent, as a suite does that goes by names.
END_OURS = """
import contextlib, glob, os, pytest, signal, time

def ours(comm):
    for name in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(name, "rb") as file: words = file.read().split(b"\\0")
            with open(name.replace("cmdline", "comm")) as file: called = file.read()
        except OSError: continue
        if b"for=%d" % os.getpid() in words and called == comm + "\\n":
            yield int(name.split("/")[2])

@pytest.fixture(scope="class", autouse=True)
def end():
    yield
    for _ in range(200):  # the next sandbox is made while a test runs, but it may take longer
        if found := list(ours("COMM")):
            break
        time.sleep(0.05)
    assert found
    for pid in found:
        with contextlib.suppress(ProcessLookupError):  # the last test's, which has ended meanwhile
            os.kill(pid, signal.SIGNAL)
    time.sleep(PAUSE)

class TestA:
    def test_one(self): pass
    def test_two(self): pass

class TestB:
    def test_three(self): pass
    def test_four(self): pass
"""


ENDED = [("builder", "SIGTERM"), ("builder", "SIGKILL"), ("isolate-init", "SIGKILL")]


@pytest.mark.parametrize(("comm", "number"), ENDED)
def test_what_was_lost_between_two_tests_is_built_anew_in_silence(project: Project, comm: str, number: str) -> None:
    project.patience = 60
    project.write(test_it=END_OURS.replace("COMM", comm).replace("SIGNAL", number).replace("PAUSE", "0.3"))

    result = project.isolated()

    result.assert_outcomes(passed=4)
    assert "sandbox" not in result.stdout.str().replace("sandboxes", "")


@pytest.mark.parametrize(("comm", "number"), ENDED)
def test_a_test_that_loses_its_sandbox_as_it_starts_is_no_failure_of_the_test(
    project: Project, comm: str, number: str
) -> None:
    project.patience = 60
    project.write(test_it=END_OURS.replace("COMM", comm).replace("SIGNAL", number).replace("PAUSE", "0"))

    result = project.isolated()

    outcomes = result.parseoutcomes()
    # Whether the test had begun when the signal arrived is up to the scheduler.
    assert outcomes in ({"passed": 4}, {"passed": 3, "errors": 1}), result.stdout.str()
    assert ("cannot keep the sandbox alive" in result.stdout.str()) == ("errors" in outcomes), result.stdout.str()


WHILE_A_TEST_RUNS = """
import threading

def end_in_time():
    time.sleep(0.5)
    for pid in ours("COMM"):
        os.kill(pid, signal.SIGNAL)

@pytest.fixture(scope="session", autouse=True)
def thread():
    one = threading.Thread(target=end_in_time)
    one.start()
    yield
    one.join()

def test_long(): time.sleep(60)
def test_after_it(): pass
"""


@pytest.mark.parametrize(("comm", "number"), ENDED)
def test_a_sandbox_that_is_ended_while_its_test_runs_is_an_error_of_the_sandbox(
    project: Project, comm: str, number: str
) -> None:
    project.patience = 60
    ours = END_OURS.partition("@pytest.fixture")[0]
    project.write(test_it=(ours + WHILE_A_TEST_RUNS).replace("COMM", comm).replace("SIGNAL", number))

    result = project.isolated()

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["sandbox: cannot keep the sandbox alive. Its PID 1, process *, or the builder was killed*"]
    )


PID_1 = """
import os, signal, subprocess, sys, time
import pytest

def children():
    return [int(pid) for pid in open(f"/proc/self/task/{os.getpid()}/children").read().split()]

@pytest.fixture(scope="class", autouse=True)
def end():
    yield
    found = children()
    assert found, "pytest is the process that orphans go to"
    for pid in found:
        os.kill(pid, signal.SIGTERM)
    for pid in found:
        os.waitpid(pid, 0)

class TestA:
    def test_one(self): pass
    def test_two(self): pass

class TestB:
    def test_three(self): pass
    def test_four(self): pass
"""
SUBREAPER = """
import ctypes
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
"""


def test_where_orphans_go_to_pytest_its_children_can_be_ended_and_waited_for(project: Project) -> None:
    project.patience = 60
    project.write(conftest=SUBREAPER, test_it=PID_1)

    project.isolated().assert_outcomes(passed=4)


def test_where_pytest_is_pid_1_its_children_can_be_ended_and_waited_for(project: Project) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    project.write(test_it=PID_1)
    inner = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *project.options, "--isolate-all"]
    command = ["unshare", "--user", "--map-current-user", "--pid", "--fork", "--mount-proc", *inner]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=project.path)
    if "unshare: " in done.stderr:
        pytest.skip(done.stderr)

    assert "4 passed" in done.stdout, done.stdout + done.stderr
