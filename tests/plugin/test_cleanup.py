"""Nothing stays on the host: no process, mount, cgroup or scratch directory, whoever is killed and when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.helper_processes import builders_of, helpers_of
from tests.support.traces import NOTHING, NUMBER, settled

pytestmark = pytest.mark.needs("sandbox")

SLEEPER = f"""
    import subprocess, time
    import pytest

    @pytest.mark.isolate
    @pytest.mark.parametrize("number", range(1000))
    def test_runs(number):
        subprocess.Popen(["sleep", "{NUMBER}"])
        time.sleep(0.02)
"""


@contextmanager
def running(project: Any, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A pytest of its own session, as a shell starts it, in the middle of its tests."""
    started = project.path / "out"
    with started.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *project.options, *options],
            cwd=project.path, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while b"PASSED" not in started.read_bytes() and time.monotonic() < deadline:
                time.sleep(0.02)
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_an_ordinary_run_leaves_nothing(project: Any) -> None:
    project.pytester.makepyfile(SLEEPER.replace("1000", "10"))

    result = project.run()

    result.assert_outcomes(passed=10)
    assert settled() == NOTHING


_KILLED = "test_a_killed_pytest_leaves_nothing"


@pytest.mark.parametrize("after", [0.0, 0.013, 0.03, 0.05, 0.2])
def test_a_killed_pytest_leaves_nothing(project: Any, after: float) -> None:
    project.pytester.makepyfile(SLEEPER)
    with running(project) as process:
        time.sleep(after)
        process.kill()
        process.wait()

        assert settled() == NOTHING


@pytest.mark.parametrize("after", [0.0, 0.07, 0.3])
def test_a_pytest_that_is_killed_with_eight_sandboxes_alive_leaves_nothing(project: Any, after: float) -> None:
    project.pytester.makepyfile(SLEEPER)
    with running(project, "--isolate-jobs=8") as process:
        time.sleep(after)
        process.kill()
        process.wait()

        assert settled() == NOTHING


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a pid namespace without an id map")
def test_a_killed_pytest_leaves_nothing_where_nobody_reaps_orphans() -> None:
    """As in a container without an init: PID 1 is the pytest that runs the test above."""
    inner = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}::{_KILLED}[0.03]"]
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", *inner],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


KILLED = """
import os, signal, sys
from pytest_isolate.linux.flags import Clone
from pytest_isolate.plan.plan import Plan
from pytest_isolate.sandbox.builder import Builder
builder = Builder()
nothing = builder.add(Plan(namespaces=Clone(0)))
def wait():
    builder.done(builder.get(nothing))  # it has read what came before
if sys.argv[2] == "at once":
    wait()
    os.kill(builder._process.pid, signal.SIGSTOP)
builder.clean_up_after([], [sys.argv[1]])
if sys.argv[2] == "when it has heard":
    wait()
print(builder._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["when it has heard", "at once"])
def test_the_builder_of_a_killed_pytest_removes_what_it_was_told_of(tmp_path: Path, when: str) -> None:
    """No other session sweeps it meanwhile, as its name is not of ours. A builder gives way, so it may hear late."""
    scratch = tmp_path / "scratch"
    (scratch / "below").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, scratch, when], check=False, timeout=60, stdout=subprocess.PIPE
    )
    assert done.returncode == -signal.SIGKILL
    os.kill(int(done.stdout), signal.SIGCONT)
    deadline = time.monotonic() + 30
    while scratch.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not scratch.exists()


def test_a_killed_pytest_leaves_no_bridge(project: Any) -> None:
    project.pytester.makepyfile(SLEEPER.replace("@pytest.mark.isolate", '@pytest.mark.isolate(network="bridge")'))
    with running(project) as process:
        brokers = helpers_of(process.pid, b"pytest_isolate.session.network.broker")
        assert len(brokers) == 1
        process.kill()
        process.wait()

        assert settled() == NOTHING


def test_a_session_sweeps_what_was_left_when_pytest_and_builder_were_killed_together(
    project: Any,
) -> None:
    project.pytester.makepyfile(SLEEPER)
    with running(project) as process:
        os.kill(process.pid, signal.SIGSTOP)  # first, so that it has no other children a moment later
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped, so that none sees the other die
            for pid in [*map(int, children), *builders_of(process.pid), process.pid]:
                with suppress(ProcessLookupError):  # a test that ended by itself
                    os.kill(pid, number)
        process.wait()
    project.pytester.makepyfile(SLEEPER.replace("1000", "1"))

    result = project.run()

    result.assert_outcomes(passed=1)
    assert settled() == NOTHING


def test_a_killed_xdist_worker_is_replaced_as_in_a_plain_run_and_leaves_nothing(project: Any) -> None:
    pytest.importorskip("xdist")
    project.pytester.makepyfile(
        """
        import os, signal
        import pytest

        @pytest.mark.parametrize("number", range(6))
        def test_before(number): pass

        @pytest.mark.no_isolate
        def test_kills_the_worker():
            os.kill(os.getpid(), signal.SIGKILL)

        @pytest.mark.parametrize("number", range(6))
        def test_after(number): pass
        """
    )

    result = project.isolated("-n2")

    result.assert_outcomes(passed=12, failed=1)
    crashed = "worker 'gw?' crashed while running 'test_*::test_kills_the_worker'"
    result.stdout.fnmatch_lines([crashed, "*12 isolated tests*"])
    assert settled() == NOTHING


SLEEPERS = """
    import os, signal, subprocess, time
    import pytest
    from tests.support.helper_processes import builders_of

    PHASE = os.environ["PHASE"]

    def sleep(phase):
        if phase == PHASE:
            subprocess.Popen(["sleep", "NUMBER"])
            with open("begun", "w"): pass
            time.sleep(100)

    @pytest.fixture(scope="module")
    def wide():
        sleep("set-up outside")
        yield
        with open("torn_down", "w"): pass
        sleep("tear-down outside")

    @pytest.fixture
    def narrow():
        sleep("set-up")
        yield
        sleep("tear-down")

    def builder():
        return builders_of(os.getpid())[0]

    @pytest.mark.isolate(writable="begun")
    def test_first(): pass

    @pytest.mark.no_isolate
    def test_stops_the_builder():
        if PHASE == "building":
            os.kill(builder(), signal.SIGSTOP)
            with open("begun", "w") as file: file.write(str(builder()))

    @pytest.mark.isolate(writable="begun")
    def test_sleeps(wide, narrow): sleep("call")

    @pytest.mark.isolate
    def test_never(): pass
""".replace("NUMBER", NUMBER)


@pytest.mark.parametrize("phase", ["building", "set-up outside", "set-up", "call", "tear-down", "tear-down outside"])
def test_ctrl_c_ends_the_run_with_a_summary_and_leaves_nothing(
    project: Any, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    monkeypatch.setenv("PHASE", phase)
    begun = project.path / "begun"
    begun.touch()
    before = begun.stat().st_mtime_ns
    project.pytester.makepyfile(SLEEPERS)
    with running(project) as process:
        deadline = time.monotonic() + 60
        while begun.stat().st_mtime_ns == before and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)  # from the file to the sleep, or to the wait for the builder
        os.killpg(process.pid, signal.SIGINT)
        if phase == "building":
            os.kill(int(begun.read_text()), signal.SIGCONT)

        assert process.wait(10) == pytest.ExitCode.INTERRUPTED
    output = (project.path / "out").read_text()
    assert "KeyboardInterrupt" in output
    assert output.rstrip().rpartition("\n")[2].startswith("=" * 10)  # the summary's last line
    assert (project.path / "torn_down").exists() == (phase != "set-up outside")
    assert settled() == NOTHING
