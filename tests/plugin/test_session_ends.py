"""How a run with ``--isolate-session`` ends: by signals, at the terminal, for lack of memory. Nothing is left."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

from pytest_isolate.linux import procfs
from tests.support.project import Project
from tests.support.session_runs import PATIENCE, running, start
from tests.support.traces import NOTHING, NUMBER, settled

pytestmark = pytest.mark.needs("sandbox")

SLEEPER = f"""
    import subprocess, time
    import pytest

    def test_sleeps():
        subprocess.Popen(["setsid", "sleep", "{NUMBER}"])
        try:
            open("begun", "w").close()  # from now on it may be interrupted
            time.sleep(100)
        finally:
            open("cleaned", "w").close()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_to_the_process_outside_ends_the_run_as_a_plain_one(project: Project, number: signal.Signals) -> None:
    project.write(test_it=SLEEPER)
    with running(project) as process:
        process.send_signal(number)
        output = process.communicate(timeout=PATIENCE)[0]

    assert process.returncode == (2 if number == signal.SIGINT else -number), output
    if number == signal.SIGINT:
        assert (project.path / "cleaned").exists()
        assert "KeyboardInterrupt" in output
    elif number != signal.SIGKILL:
        assert f"\nisolate: pytest was killed by {number.name} in its sandbox" in output
    assert settled() == NOTHING


def read_all(terminal: int) -> str:
    """All that is shown, until the last process that has the terminal open has ended."""
    output = b""
    with suppress(OSError):  # EIO at the end
        while more := os.read(terminal, 65536):
            output += more
    return output.decode()


@pytest.mark.parametrize("isolated", [[], ["--isolate-all"]], ids=["plain", "isolated"])
def test_what_is_typed_at_the_terminal_interrupts_the_run_once(project: Project, isolated: list[str]) -> None:
    project.write(test_it=SLEEPER)
    master, slave = os.openpty()
    with running(project, *isolated, terminal=slave) as process:
        os.close(slave)
        os.write(master, b"\x03")
        output = read_all(master)
        assert process.wait(PATIENCE) == pytest.ExitCode.INTERRUPTED, output
    os.close(master)

    assert "KeyboardInterrupt" in output
    assert "ERROR" not in output
    assert (project.path / "cleaned").exists()
    assert settled() == NOTHING


def test_a_terminal_that_hangs_up_ends_the_run_although_nothing_can_be_said(project: Project) -> None:
    project.write(test_it=SLEEPER)
    master, slave = os.openpty()
    with running(project, "--isolate-all", terminal=slave) as process:
        os.close(slave)
        os.close(master)
        assert process.wait(PATIENCE) == -signal.SIGHUP

    assert settled() == NOTHING


def test_the_process_outside_ends_as_the_one_inside(project: Project) -> None:
    project.write(test_it=SLEEPER)
    with running(project, "--isolate-all") as process:
        (inside,) = [pid for pid, parent in procfs.parents().items() if parent == process.pid]
        os.kill(inside, signal.SIGKILL)
        output = process.communicate(timeout=PATIENCE)[0]

    assert process.returncode == -signal.SIGKILL, output
    assert "\nisolate: pytest was killed by SIGKILL in its sandbox" in output
    assert settled() == NOTHING


@pytest.mark.needs("memory")
def test_a_limit_holds_for_fixtures_and_tests_together(project: Project) -> None:
    project.write(
        test_it="""
        import pytest

        @pytest.fixture(scope="session")
        def large(): return bytearray(300 << 20)

        def test_it(large): pass
        """
    )
    process = start(project, "--isolate-session-memory=150M", "--isolate-all")
    output = process.communicate(timeout=PATIENCE)[0]

    assert process.returncode == -signal.SIGKILL, output
    assert "killed by SIGKILL in its sandbox, as a limit of its memory was reached" in output
    assert settled() == NOTHING
