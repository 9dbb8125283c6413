"""A test that waits for what only pytest's process has fails instead of waiting for ever."""

from __future__ import annotations

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")

LOCKED = """
    import threading, time
    import pytest

    lock = threading.Lock()

    @pytest.fixture(scope="session")
    def holder():
        lock.acquire()  # a thread of pytest's process would release it
        yield

    def test_waits(holder):
        print("before the lock")
        with lock:
            pass

    def test_waits_with_a_thread_of_its_own(holder):
        thread = threading.Thread(target=lock.acquire, daemon=True)
        thread.start()
        thread.join()

    def test_sleeps(holder):
        time.sleep(4)

    def test_waits_with_a_time_out(holder):
        assert not lock.acquire(timeout=4)

    def test_is_released_late(holder):
        own = threading.Lock()
        own.acquire()
        timer = threading.Timer(4, own.release)
        timer.start()
        own.acquire()
"""


@pytest.mark.parametrize("options", [(), ("-n2", "-pxdist")], ids=["", "n2"])
def test_only_a_test_that_can_never_go_on_is_ended(project: Project, options: tuple[str, ...]) -> None:
    project.write(test_it=LOCKED)
    project.patience = 120
    result = project.isolated("--isolate-stall-timeout=2", *options)
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines(
        [
            "E*Failed: made no progress for 2 s: each of its threads waits for a lock that nobody can release *",
            "*Stacks (faulthandler)*",
            "*in test_waits*",
        ]
    )


def test_a_process_that_the_test_waits_for_is_progress(project: Project) -> None:
    project.write(
        test_it="""
        import subprocess, sys, threading

        def test_waits_for_a_child_that_another_thread_reads():
            lock = threading.Lock()
            lock.acquire()
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(4)"])
            threading.Thread(target=lambda: (child.wait(), lock.release()), daemon=True).start()
            lock.acquire()
        """
    )
    project.isolated("--isolate-stall-timeout=2").assert_outcomes(passed=1)


def test_it_can_be_switched_off(project: Project) -> None:
    project.write(test_it=LOCKED)
    project.pytester.makeini("[pytest]\nisolate_stall_timeout = 0")
    result = project.isolated("--isolate-timeout=5", "-k", "test_waits and not thread and not time_out")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*Failed: exceeded timeout=5 s (in the call)"])


def test_a_wrong_limit_is_a_usage_error(project: Project) -> None:
    project.write(test_it="def test_it(): pass")
    result = project.isolated("--isolate-stall-timeout=soon")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*command line: --isolate-stall-timeout: 'soon': allowed is a number of seconds*"])


@pytest.mark.needs("compiler")
def test_native_threads_are_named_before_the_run_and_beside_the_failure(project: Project) -> None:
    library = project.compile(
        """
        #define _GNU_SOURCE
        #include <pthread.h>
        #include <stdlib.h>
        #include <unistd.h>
        static void *work(void *unused) { for (;;) pause(); return unused; }
        void load(void) {
            pthread_t thread;
            if (pthread_create(&thread, NULL, work, NULL)) abort();
            pthread_setname_np(thread, "pool-of-mine");
        }
        """
    )
    project.write(conftest=f"import ctypes\nctypes.CDLL({library!r}).load()", test_it=LOCKED)
    result = project.isolated("--isolate-stall-timeout=2", "-k", "test_waits and not thread and not time_out")
    result.stdout.fnmatch_lines(
        [
            "isolate: 1 native thread of pytest's process is in no sandbox: pool-of-mine",
            "*The sandbox as a possible cause*",
            "*(here pool-of-mine (native))*",
        ]
    )
