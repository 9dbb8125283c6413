"""SIGCHLD of pytest's process may be ignored, or have a handler that waits for any child."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.ignoring import IGNORING
from tests.support.project import Project

pytestmark = [pytest.mark.needs("sandbox"), pytest.mark.timeout(120)]

WAYS = pytest.mark.parametrize("options", [[], ["--isolate-jobs=2"], ["--isolate-session"]], ids=" ".join)
ENDS = """
def test_passes(): pass
def test_fails(): assert "it" == "fails"
def test_dies(): os._exit(3)
"""


@WAYS
def test_a_module_may_ignore_it(project: Project, options: list[str]) -> None:
    project.write(
        test_it=f"""
        import os, signal, subprocess
        import pytest
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        @pytest.fixture(scope="session", autouse=True)
        def children():
            subprocess.Popen(["true"])
            yield
            assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
            with pytest.raises(ChildProcessError):  # the kernel has reaped it, or we have in its place
                os.waitpid(-1, os.WNOHANG)
        {ENDS.replace(chr(10), chr(10) + " " * 8)}
        def test_it_is_ignored_inside():
            pid = os.posix_spawn("/bin/true", ["true"], os.environ)
            with pytest.raises(ChildProcessError):
                os.waitpid(pid, 0)
        """
    )

    result = project.isolated(*options)

    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*assert 'it' == 'fails'", "*exited with status 3 without a result*"])


@WAYS
def test_pytest_may_be_started_with_it_ignored(project: Project, options: list[str]) -> None:
    project.write(test_it=f"import os, subprocess\n{ENDS}")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *project.options, "--isolate-all", *options]

    done = subprocess.run(
        [*IGNORING, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=project.path,
    )

    assert "2 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1


@WAYS
def test_a_handler_may_wait_for_any_child(project: Project, options: list[str]) -> None:
    project.write(
        test_it=f"""
        import os, signal, time
        import pytest
        reaped = []
        def reap(number, frame):
            try:
                while (child := os.waitpid(-1, os.WNOHANG))[0]:
                    reaped.append(child)
            except ChildProcessError:
                pass
        @pytest.fixture(scope="session", autouse=True)
        def child():
            signal.signal(signal.SIGCHLD, reap)
            pid = os.posix_spawn("/bin/sh", ["sh", "-c", "sleep 0.3; exit 7"], os.environ)
            yield
            assert reaped == [(pid, 7 << 8)]
        {ENDS.replace(chr(10), chr(10) + " " * 8)}
        def test_it_handles_those_inside():
            time.sleep(0.5)  # meanwhile the fixture's has ended
            reaped.clear()
            pid = os.posix_spawn("/bin/true", ["true"], os.environ)
            deadline = time.monotonic() + 30
            while not reaped and time.monotonic() < deadline:
                time.sleep(0.01)
            assert reaped == [(pid, 0)]
        """
    )

    result = project.isolated(*options)

    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*assert 'it' == 'fails'", "*exited with status 3 without a result*"])


@pytest.mark.needs("netns")
def test_a_program_in_a_node_runs_to_its_end_where_it_is_ignored(project: Project) -> None:
    project.write(
        test_it="""
        import signal, sys
        import pytest
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        LOOK = "import signal, time; time.sleep(0.2); print(signal.getsignal(signal.SIGCHLD).name)"
        @pytest.fixture(scope="module")
        def told(isolate_network_factory):
            node = isolate_network_factory("lab").node("one")
            return node.run([sys.executable, "-c", LOOK], capture_output=True, text=True).stdout
        def test_it(told):
            assert told == "SIG_IGN\\n"
        """
    )

    project.isolated().assert_outcomes(passed=1)
