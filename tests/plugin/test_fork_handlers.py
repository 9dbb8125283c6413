"""Fork handlers of libraries run in pytest's process and in the test's, and one that never returns ends the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox", "compiler")

#: Stops its thread before a fork and starts it again after it, on both sides, as gRPC and OpenBLAS do.
LIBRARY = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static pthread_t worker;
static volatile int stop, beats, pid, tid, stuck;
static int counts[3];

static void *beat(void *unused) {
  (void)unused;
  pid = getpid(), tid = gettid();
  while (!stop) beats++, usleep(1000);
  return NULL;
}

static void start(void) {
  stop = 0;
  if (pthread_create(&worker, NULL, beat, NULL)) abort();
}

static void prepare(void) {
  counts[0]++;
  stop = 1;
  pthread_join(worker, NULL);
  while (stuck) pause();
}

static void parent(void) { counts[1]++, start(); }
static void child(void) { counts[2]++, start(); }

void load(void) { start(), pthread_atfork(prepare, parent, child); }
void get_stuck(void) { stuck = 1; }
int count(int which) { return counts[which]; }
int thread_of(void) { return pid; }
int alive(void) {
  int before = beats;
  for (int i = 0; i < 2000; i++, usleep(1000))
    if (beats > before + 1) return 1;
  return 0;
}
"""
CONFTEST = """
    import ctypes, os
    import pytest

    library = ctypes.CDLL({path!r})

    @pytest.fixture(scope="session")
    def loaded():
        library.load()
        return library
"""


@pytest.fixture
def library(project: Project) -> Project:
    """A project whose session fixture ``loaded`` is the library."""
    project.write(conftest=CONFTEST.format(path=project.compile(LIBRARY)))
    return project


@pytest.mark.parametrize("options", [(), ("-n1", "-pxdist")], ids=["", "n1"])
def test_a_thread_that_a_fork_stops_is_there_again_on_both_sides(library: Project, options: tuple[str, ...]) -> None:
    library.write(
        test_it="""
        import os
        import pytest

        @pytest.fixture(scope="module")
        def outside(loaded):
            yield os.getpid()
            forks = loaded.count(0)
            assert (loaded.count(1), loaded.count(2)) == (forks, 0)  # none was left out, none came to the child's here
            assert loaded.thread_of() == os.getpid()
            assert loaded.alive()

        @pytest.mark.parametrize("number", range(3))
        def test_inside(outside, loaded, number):
            assert (loaded.count(0), loaded.count(1), loaded.count(2)) == (number + 1, number, 1)
            assert loaded.alive()
            assert loaded.thread_of() == os.getpid() < outside
            children = os.listdir("/proc/self/task")
            assert len(children) == 2

        def test_a_fork_of_the_test_is_as_everywhere(loaded):
            if (pid := os.fork()) == 0:
                os._exit(0 if loaded.alive() and loaded.thread_of() == os.getpid() else 1)
            assert os.waitpid(pid, 0)[1] == 0
            assert loaded.alive()
        """
    )
    library.isolated("--isolate-timeout=20", *options).assert_outcomes(passed=4)


@pytest.mark.needs("pids")
def test_threads_of_fork_handlers_count_as_the_tests_own(library: Project) -> None:
    """They are started after the child has entered its cgroup, and have no capabilities that the test has not."""
    library.write(
        test_it="""
        import os
        import pytest

        def facts(thread):
            with open(f"/proc/self/task/{thread}/status") as file:
                words = [line.split() for line in file]
            found = {line[0]: line[1:] for line in words if line[0] in ("CapPrm:", "CapBnd:", "Seccomp:")}
            with open(f"/proc/self/task/{thread}/cgroup") as file:
                return found, file.read()

        @pytest.mark.isolate(pids=20)
        def test_inside(loaded):
            first, second = sorted(map(int, os.listdir("/proc/self/task")))
            assert facts(first) == facts(second)
        """
    )
    library.isolated("--isolate-timeout=20").assert_outcomes(passed=1)


STUCK = """
    def test_first(loaded):
        pass

    def test_before(loaded):
        loaded.get_stuck()  # inside: harms nobody outside

    def test_after(loaded):
        pass
"""
#: Sticks in pytest's own process.
STUCK_OUTSIDE = """
    import pytest

    @pytest.fixture(scope="module")
    def stuck(loaded):
        loaded.get_stuck()

    def test_it(stuck):
        pass
"""


def test_a_handler_that_is_stuck_inside_is_gone_with_the_test(library: Project) -> None:
    library.write(test_it=STUCK)
    library.isolated("--isolate-timeout=20").assert_outcomes(passed=3)


def test_a_handler_that_never_returns_ends_the_run_when_the_tests_time_is_up(library: Project) -> None:
    library.write(test_it=STUCK_OUTSIDE)
    library.patience = 60
    result = library.isolated("--isolate-timeout=2")
    assert result.ret == -signal.SIGABRT
    result.stderr.fnmatch_lines(
        [
            "pytest-isolate-ns: pytest ends here, as a fork handler does not come back.",
            "*library.so*",
            "*Fatal Python error*",
        ]
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_handler_that_never_returns_is_ended_by_a_signal(library: Project, number: signal.Signals) -> None:
    library.write(test_it=STUCK_OUTSIDE)
    with subprocess.Popen(command(library), cwd=library.path, stderr=subprocess.PIPE, text=True) as run:
        wait_until_stuck(run.pid)
        run.send_signal(number)
        _, said = run.communicate(timeout=20)
    assert run.returncode == -number
    assert "a signal ends pytest while it forks a test" in said


def test_nothing_is_left_of_a_pytest_that_is_killed_while_it_forks(library: Project) -> None:
    library.write(test_it=STUCK_OUTSIDE)
    with subprocess.Popen(command(library), cwd=library.path, stderr=subprocess.DEVNULL) as run:
        wait_until_stuck(run.pid)
        mark = f"for={run.pid}"
        assert helpers(mark)
        run.kill()
        run.wait(timeout=20)
    deadline = time.monotonic() + 20
    while helpers(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert helpers(mark) == []


def command(project: Project) -> list[str]:
    return [sys.executable, "-m", "pytest", *project.options, "-p", "no:cacheprovider", "--isolate-all"]


def wait_until_stuck(pid: int) -> None:
    """Until its main thread sleeps in the library's ``pause()``."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/syscall").read_text().startswith(("34 ", "73 ")):  # pause; ppoll on aarch64
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError("it does not get stuck")


def helpers(mark: str) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if mark in words:
            found.append(pid)
    return found
