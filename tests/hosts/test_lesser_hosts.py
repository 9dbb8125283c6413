"""Hosts that refuse single things: filters, numbers that are reached, containers. No test passes there unisolated; what
is said mends it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.container import Container
from tests.support.project import QUICK, Project
from tests.support.refusing_seccomp import DOCKER, command
from tests.support.traces import NOTHING, settled

pytestmark = pytest.mark.needs("sandbox")

ROOT = os.geteuid() == 0
#: Passes in a sandbox alone.
TEST = "import os\ndef test_it(): assert os.getpid() < 10\n"
CONTAINER = "*--security-opt seccomp=unconfined*"
PYTEST = ["-m", "pytest", *QUICK, "-p", "no:cacheprovider", "--isolate-all"]


def run_under(project: Project, *prefix: str) -> pytest.RunResult:
    """A run of the test behind ``prefix``."""
    project.write(test_it=TEST)
    options = [option for option in project.options if option not in QUICK]
    result: pytest.RunResult = project.pytester.run(*prefix, sys.executable, *PYTEST, *options)
    return result


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (["clone3=ENOSYS"], ""),  # clone(2) does
        (["mount=EPERM"], CONTAINER),
        (["unshare=EPERM"], "*(unshare): EPERM*--security-opt seccomp=unconfined*"),
        (["setns=EPERM"], "*(setns): EPERM*--security-opt seccomp=unconfined*"),
        (["clone=EPERM", "clone3=ENOSYS"], CONTAINER),
        (DOCKER, CONTAINER),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value)[:40],
)
def test_under_a_filter_of_system_calls_a_test_is_isolated_or_an_error_with_the_remedy(
    project: Project, refused: Sequence[str], told: str
) -> None:
    result = run_under(project, *command(*refused))

    result.assert_outcomes(passed=int(not told), errors=int(bool(told)))
    if told:
        result.stdout.fnmatch_lines([told])
    assert settled() == NOTHING


@pytest.mark.parametrize("kind", ["pid", "mnt", "net", "uts", "ipc"])
def test_a_number_of_namespaces_that_is_reached_is_told_with_its_setting(project: Project, kind: str) -> None:
    script = f'echo 0 >/proc/sys/user/max_{kind}_namespaces; exec "$@"'
    result = run_under(project, "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*ENOSPC*sudo sysctl -w user.max_{kind}_namespaces=10000*"])


@pytest.mark.skipif(not ROOT, reason="a group of its own, which root alone is sure to have")
@pytest.mark.needs("pids")
@pytest.mark.parametrize("most", [1, 4])
def test_a_limit_of_processes_that_pytest_itself_has_reached_is_told(project: Project, most: int) -> None:
    top = next((path for path in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup") if Path(path, "cgroup.procs").exists()), "")
    group = Path(top, f"isolate-test-few-{os.getpid()}")
    group.mkdir()
    if not (group / "pids.max").exists():
        group.rmdir()
        pytest.skip(f"{top} hands no pids controller down")
    try:
        (group / "pids.max").write_text(str(most))
        result = run_under(project, "sh", "-c", f'echo 0 >{group}/cgroup.procs; exec "$@"', "sh")
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*EAGAIN*raise ulimit -u, or pids.max*"])
        assert settled() == NOTHING
    finally:
        group.rmdir()


FULL = """
mount -t tmpfs -o size=64k none full
mount --bind full /dev/shm
cat /dev/zero >full/fill 2>/dev/null
"$@"
status=$?
echo full: $(ls -A full | grep -v base)
exit $status
"""
WRITES = """
import os

def test_writes_where_the_disk_is_full(tmp_path):
    assert os.getpid() < 10
    for folder in (tmp_path, "/tmp", "/dev/shm"):
        with open(f"{folder}/large", "wb") as file:
            file.write(bytes(1 << 20))
"""


def run_beside_a_full_disk(project: Project, *options: str) -> pytest.RunResult:
    """The last line has what is there at the end, but for folders of pytest."""
    (project.path / "full").mkdir()
    project.write(test_it=WRITES)
    user = [] if ROOT else ["--user", "--map-root-user"]
    prefix = ["unshare", *user, "--mount", "sh", "-c", FULL, "sh", sys.executable, *PYTEST]
    result: pytest.RunResult = project.pytester.run(*prefix, *options, "test_it.py")
    return result


def test_on_a_full_disk_a_test_has_room_and_what_cannot_be_kept_is_told(project: Project) -> None:
    result = run_beside_a_full_disk(project, "--basetemp=full/base", "--isolate-report=full/report.json")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*of tmp_path is lost *full/base/*/large: No space left on device",
            "isolate: cannot write the report *full/report.json: No space left on device",
        ]
    )
    assert result.outlines[-1] == "full: fill"
    assert settled() == NOTHING


@pytest.mark.skipif(not ROOT, reason="a user mounts in a namespace of his own, in which there is no session sandbox")
def test_what_stays_of_a_session_on_a_full_disk_is_told_and_nothing_else_is_left(project: Project) -> None:
    result = run_beside_a_full_disk(project, "--isolate-session", "--junitxml=full/results.xml")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["isolate: could not keep *full/results.xml: No space left on device"])
    assert result.outlines[-1] == "full: fill"
    assert settled() == NOTHING


def run_in(container: Container, *arguments: str) -> subprocess.CompletedProcess[str]:
    return container.run([sys.executable, *arguments], {"test_it.py": TEST})


@pytest.mark.skipif(not ROOT, reason="an engine is root's here")
@pytest.mark.needs("runc")
@pytest.mark.parametrize("rootless", [False, True], ids=["as Docker's", "as Podman's, rootless"])
def test_in_a_container_each_remedy_leads_to_the_next_and_the_last_to_a_sandbox(rootless: bool) -> None:  # noqa: FBT001
    """Its root is on an overlay, its ids may be a range, its /proc is masked, its control groups cannot be written."""
    refused = run_in(Container(rootless=rootless), *PYTEST)
    assert "1 error" in refused.stdout, refused
    assert "--security-opt seccomp=unconfined" in refused.stdout
    doctor = run_in(Container(rootless=rootless), "-m", "pytest_isolate", "doctor")
    assert doctor.returncode == 1
    assert "--security-opt seccomp=unconfined" in doctor.stdout

    masked = run_in(Container(rootless=rootless, seccomp=False), *PYTEST)
    assert "1 error" in masked.stdout, masked
    assert "--security-opt systempaths=unconfined" in masked.stdout

    mended = run_in(Container(rootless=rootless, seccomp=False, masked=False), *PYTEST)
    assert "1 passed" in mended.stdout, mended
    capped = run_in(Container(rootless=rootless, seccomp=False, masked=False), *PYTEST, "--isolate-memory=100M")
    assert "memory cannot be enforced here: " in capped.stdout, capped
    assert settled() == NOTHING
