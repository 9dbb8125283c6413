"""A test beyond its time-out is ended, and the report shows where it was."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.project import indent

HANGS = {
    "sleeping": "time.sleep(60)",
    "spinning": "while True: pass",
    "blocking all signals": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(60)",
    "waiting for a lock in another thread": """
        lock = threading.Lock()
        lock.acquire()
        thread = threading.Thread(target=lambda: lock.acquire(), name="stuck")
        thread.start()
        thread.join()
    """,
}


@pytest.mark.needs("sandbox")
@pytest.mark.parametrize("how", HANGS)
def test_a_test_beyond_its_timeout_fails_with_the_stacks_of_its_threads(project: Any, how: str) -> None:
    project.pytester.makepyfile(
        f"""
import os, signal, subprocess, threading, time
import pytest

@pytest.mark.isolate(timeout=1)
def test_hangs():
    print("about to hang")
    subprocess.Popen(["sleep", "61"])
{indent(HANGS[how])}

@pytest.mark.isolate(timeout=20)
def test_after_it():
    assert True
"""
    )

    result = project.run()

    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*exceeded timeout=1 s*",
            "*Stacks*",
            "*in test_hangs*",
            "*Processes alive*",
            "* sleep 61",
            "*Captured stdout call*",
            "about to hang",
        ]
    )


@pytest.mark.needs("sandbox")
def test_a_stopped_test_is_ended_at_its_timeout(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import os, signal
        import pytest

        @pytest.mark.isolate(timeout=1)
        def test_stops():
            os.kill(os.getpid(), signal.SIGSTOP)

        @pytest.mark.isolate
        def test_after_it():
            assert True
        """
    )

    result = project.run()

    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*exceeded timeout=1 s*", "*Processes alive*", "2 T (the test itself)"])
