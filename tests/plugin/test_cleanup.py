"""Nothing stays on the host: no process, mount, cgroup or scratch directory, whoever is killed and when."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pytest_isolate.builder import Builder
from pytest_isolate.errors import SetupError

pytestmark = pytest.mark.needs("sandbox")

#: Found again in a process list; one of our own, as other workers run these tests as well.
NUMBER = str(100_000 + os.getpid())

#: Of pid namespaces, as names of sessions have it.
NAMESPACE = re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))

#: Lines of mountinfo before any test.
MOUNTS = Path("/proc/self/mountinfo").read_text().splitlines()

SLEEPER = f"""
    import subprocess, time
    import pytest

    @pytest.mark.isolate
    @pytest.mark.parametrize("number", range(1000))
    def test_runs(number):
        subprocess.Popen(["sleep", "{NUMBER}"])
        time.sleep(0.02)
"""


def traces() -> dict[str, list[str]]:
    """What a session of ours can leave on a host, by kind."""
    found: dict[str, list[str]] = {"processes": list(_processes()), "cgroups": [], "scratch": [], "mounts": []}
    for mount in Path("/proc/self/mountinfo").read_text().splitlines():
        point, kind = mount.split()[4], mount.partition(" - ")[2].split()[0]
        if kind in ("cgroup", "cgroup2"):
            for path, directories, _ in os.walk(point):
                found["cgroups"] += [f"{path}/{name}" for name in directories if name.startswith("pytest-isolate-")]
        if mount not in MOUNTS:
            found["mounts"].append(mount)
    for folder in {"/tmp", "/var/tmp", os.environ.get("TMPDIR", "/tmp")}:
        found["scratch"] += [str(path) for path in Path(folder).glob("pytest-isolate*")]
    # What an outer run of this very test suite has, or one beside it, is not left over.
    for kind in ("cgroups", "scratch"):
        found[kind] = [path for path in found[kind] if not _lives(path)]
    return found


def _processes() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and entry.stat().st_uid == os.getuid():
                line = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and (line[:2] == ["sleep", NUMBER] or (_is_orphaned(line) and _is_here(entry))):
                    yield f"{entry.name} {line}"
        except OSError:
            continue


def _is_orphaned(command: list[str]) -> bool:
    """A builder, PID 1 of a sandbox, or a broker, whose pytest has gone. Others belong to runs beside this one."""
    ours = command[0] == "isolate-builder" or any("pytest_isolate.broker" in word for word in command)
    owner = next((word.removeprefix("for=") for word in command if word.startswith("for=")), None)
    return ours and owner is not None and not Path("/proc", owner).exists()


def _is_here(entry: Path) -> bool:
    """Whether a process is in our pid namespace: a run beside this one may have sessions in others."""
    numbers = next(line for line in (entry / "status").read_text().splitlines() if line.startswith("NSpid:"))
    return len(numbers.split()) == 2


def _lives(path: str) -> bool:
    """Whether the session that a group or directory is of goes on, or is of another pid namespace."""
    for part in Path(path).parts:
        if part.startswith("pytest-isolate-") and part.count("-") >= 4:
            namespace, pid = part.split("-")[2:4]
            return namespace != NAMESPACE or Path(f"/proc/{pid}").exists()
    return True  # a supervisor's leaf: its processes are alive by definition


def settled(timeout: float = 10) -> dict[str, list[str]]:
    """What is left after some patience: the builder goes on for a moment after pytest's death."""
    deadline = time.monotonic() + timeout
    while any((left := traces()).values()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


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


NOTHING: dict[str, list[str]] = {"processes": [], "cgroups": [], "scratch": [], "mounts": []}


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


def children_of(pid: int, words: bytes) -> list[str]:
    """Those with ``words`` on their command line; one may end while it is looked at."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(ProcessLookupError, FileNotFoundError):
            if words in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def test_a_killed_pytest_leaves_no_bridge(project: Any) -> None:
    project.pytester.makepyfile(SLEEPER.replace("@pytest.mark.isolate", '@pytest.mark.isolate(network="bridge")'))
    with running(project) as process:
        brokers = children_of(process.pid, b"pytest_isolate.broker")
        assert len(brokers) == 1
        process.kill()
        process.wait()

        assert settled() == NOTHING


def test_a_killed_builder_costs_one_test_at_most_and_leaves_nothing(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import os, signal, time
        import pytest

        def test_kills_the_builder():
            children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
            builders = [pid for pid in children if b"isolate-builder" in open(f"/proc/{pid}/cmdline", "rb").read()]
            assert len(builders) == 1
            os.kill(int(builders[0]), signal.SIGKILL)

        @pytest.mark.isolate
        @pytest.mark.parametrize("number", range(3))
        def test_after_it(number):
            assert os.getpid() > 1
        """,
        test_a="""
        import pytest

        @pytest.mark.isolate
        def test_before():
            assert True
        """,
    )

    result = project.run()

    outcomes = result.parseoutcomes()
    assert outcomes["passed"] >= 4
    assert outcomes.get("errors", 0) + outcomes.get("failed", 0) <= 1
    assert settled() == NOTHING


def test_a_builder_that_cannot_be_reached_has_died_though_it_cannot_be_waited_for_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    builder = Builder()
    os.kill(builder.pid, signal.SIGKILL)
    with monkeypatch.context() as patched:
        patched.setattr(os, "waitpid", lambda *_: (0, 0))  # the moment between its socket's end and its own

        with pytest.raises(SetupError, match="cannot reach the builder process"):
            builder.settle()

        assert not builder.alive()
    builder.close()


def test_a_session_sweeps_what_was_left_when_pytest_and_builder_were_killed_together(
    project: Any,
) -> None:
    project.pytester.makepyfile(SLEEPER)
    with running(project) as process:
        os.kill(process.pid, signal.SIGSTOP)  # first, so that it has no other children a moment later
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped, so that none sees the other die
            for pid in [*children, str(process.pid)]:
                with suppress(ProcessLookupError):  # a test that ended by itself
                    os.kill(int(pid), number)
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
        children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
        return next(int(pid) for pid in children if b"isolate-builder" in open(f"/proc/{pid}/cmdline", "rb").read())

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
