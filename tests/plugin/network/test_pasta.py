"""The programs behind ``network="nat"``: none outlives its test, and a host without them is told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.helper_processes import builders_of
from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox", "netns")


LONG = """
    import os, time
    import pytest

    @pytest.mark.isolate(network="nat", writable=[os.getcwd()])
    def test_it():
        open("runs", "w").close()
        time.sleep(60)
"""


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ways_out(pytest_pid: int) -> list[int]:
    """The two programs of each sandbox of a pytest, below its builder."""
    found = [*builders_of(pytest_pid)]
    for pid in found:
        found += children(pid)
    return [pid for pid in found if b"--ns-ifname" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.needs("nat")
@pytest.mark.parametrize(
    ("number", "victim"), [(signal.SIGINT, "pytest"), (signal.SIGKILL, "pytest"), (signal.SIGKILL, "builder")]
)
def test_its_programs_end_whoever_is_killed(project: Project, number: signal.Signals, victim: str) -> None:
    project.write(test_it=LONG)
    command = [sys.executable, "-m", "pytest", *project.options, "-p", "no:cacheprovider"]
    process = subprocess.Popen(command, cwd=project.path, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while not (project.path / "runs").exists() and time.monotonic() < until:
            time.sleep(0.05)
        found = ways_out(process.pid)
        assert len(found) >= 2
        (builder,) = builders_of(process.pid)
        os.kill(process.pid if victim == "pytest" else builder, number)
        process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
    until = time.monotonic() + 10
    while (left := [pid for pid in found if _lives(pid)]) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


ALONE = """
    import socket
    import pytest

    @pytest.mark.isolate(network="nat")
    @pytest.mark.parametrize("number", range(2))
    def test_it(number):
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
"""
PASTA = """#!/bin/sh
echo "12.345: cannot go out today" >&2
echo "Failed to send 27 bytes to syslog" >&2
exit 1
"""


@pytest.mark.parametrize(
    ("unsupported", "outcomes"), [("error", {"errors": 2}), ("skip", {"skipped": 2}), ("degrade", {"passed": 2})]
)
def test_where_pasta_is_not_installed_the_test_is_told_and_never_has_the_host_s_network(
    project: Project, unsupported: str, outcomes: dict[str, int]
) -> None:
    project.write(conftest="import shutil\nshutil.which = lambda _: None", test_it=ALONE)

    result = project.run(f"--isolate-unsupported={unsupported}", "-rs")

    result.assert_outcomes(**outcomes)
    shown = " ".join(result.stdout.str().split())
    reason = "pasta is not installed"
    if unsupported != "degrade":
        reason = f"network cannot be enforced here: {reason}. Install the package passt"
    assert reason in shown
    assert unsupported != "degrade" or re.search("NOT in force .*network", shown)


def test_pasta_s_own_reason_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    program = project.path / "bin/pasta"
    program.parent.mkdir()
    program.write_text(PASTA)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    project.write(conftest="from pytest_isolate.sandbox.probe import nat\nnat._TUN = '/dev/null'", test_it=ALONE)

    result = project.run()

    result.assert_outcomes(errors=2)
    shown = " ".join(result.stdout.str().split())
    assert "cannot connect it to the outside (pasta says: cannot go out today)" in shown
    assert "docs networks" in shown
