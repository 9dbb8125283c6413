"""Where a run in a session sandbox is told to write: places of which the sandbox has others, and pipes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.project import Project

pytestmark = [pytest.mark.needs("sandbox"), pytest.mark.timeout(240)]

SHM = Path("/dev/shm")
LOST = "* would be lost: the sandbox has a /dev/shm of its own*--isolate-session-writable=/dev/shm*"


@pytest.fixture
def folder() -> Iterator[Path]:
    """In shared memory."""
    if not os.access(SHM, os.W_OK):
        pytest.skip("there is no /dev/shm that may be written")
    with TemporaryDirectory(dir=SHM) as path:
        yield Path(path)


@pytest.mark.parametrize("option", ["--junitxml={}/a.xml", "-oisolate_report={}.html", "--isolate-session-writable={}"])
def test_what_is_to_stay_in_shared_memory_is_a_usage_error(project: Project, folder: Path, option: str) -> None:
    project.write(test_it="def test_it(): pass")

    result = project.isolated("--isolate-session", option.format(folder))

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --isolate-session: {folder}{LOST}"])


def test_a_project_in_shared_memory_is_a_usage_error(project: Project, folder: Path) -> None:
    (folder / "test_it.py").write_text("def test_it(): pass")

    result = project.isolated("--isolate-session", f"--rootdir={folder}")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --isolate-session: {folder}{LOST}"])


def test_with_the_machines_shared_memory_reports_arrive_there(project: Project, folder: Path) -> None:
    project.write(test_it="def test_it(): pass")
    report = folder / "report.xml"

    result = project.isolated("--isolate-session", f"--junitxml={report}", "--isolate-session-writable=/dev/shm")

    result.assert_outcomes(passed=1)
    assert "test_it" in report.read_text()


def test_bytecode_may_be_lost_with_the_shared_memory(
    project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(test_it="def test_it(): pass")
    (project.path / "link").symlink_to(folder)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(project.path / "link"))
    command = [sys.executable, "-m", "pytest", *project.options, "--isolate-session"]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=project.path)

    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_report_arrives_at_standard_output(project: Project) -> None:
    project.write(test_it="def test_it(): pass")
    command = [sys.executable, "-m", "pytest", *project.options, "--isolate-session", "--junitxml=/dev/stdout"]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=project.path)

    assert 'name="test_it"' in done.stdout, done.stdout + done.stderr


def test_a_report_arrives_through_a_named_pipe(project: Project) -> None:
    project.write(test_it="def test_it(): pass")
    pipe = project.path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    project.patience = 60

    result = project.isolated("--isolate-session", f"--junitxml={pipe}")

    reader.join(10)
    result.assert_outcomes(passed=1)
    assert "test_it" in read[0]


def test_pytests_own_log_of_what_it_does_arrives(project: Project) -> None:
    project.write(test_it="def test_it(): pass")
    project.run("--isolate-session", "--debug=it.log").assert_outcomes(passed=1)
    assert "pytest_sessionfinish" in (project.path / "it.log").read_text()
