"""``nested=True``: mounts and sandboxes within a sandbox, for root as well, and what it gives away."""

from __future__ import annotations

import os

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox", "nesting")

INNER = """
    import os, subprocess, sys
    import pytest

    def sh(script):
        done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run_pytest(*options):
        command = [sys.executable, "-m", "pytest", *OPTIONS, "-p", "no:cacheprovider", "--isolate-all", *options]
        return subprocess.run(command, capture_output=True, text=True)
"""
OUTER = f"""{INNER}
    def test_a_suite_of_isolated_tests_runs_inside():
        done = run_pytest("--isolate-nested=true", "inner.py")
        assert "3 passed" in done.stdout, done.stdout + done.stderr
        assert not os.path.exists("written")

    @pytest.mark.skipif(os.getuid() == 0, reason="below")
    def test_a_user_mounts_in_a_namespace_of_his_own():
        sh("unshare --user --map-root-user --mount mount -t tmpfs none /mnt")
        sh("unshare --user --map-root-user --pid --fork --mount-proc test -d /proc/1")

    @pytest.mark.isolate(user="root")
    def test_root_mounts_what_nobody_else_sees():
        assert sh("mount -t tmpfs none /mnt; touch /mnt/mounted; ls /mnt") == "mounted\\n"
        sh("unshare --mount mount -t tmpfs none /mnt")
        sh("unshare --pid --fork --mount-proc --mount test -d /proc/1")

    @pytest.mark.skipif(os.getuid() != 0, reason="a user's root has only what is the user's")
    def test_what_is_read_only_stays_so_and_covered():
        for path in ("/proc/sys", "/proc/sysrq-trigger", "/sys"):
            with pytest.raises(AssertionError, match="denied|not permitted|read-only|not mounted|must be superuser"):
                sh(f"mount -o remount,bind,rw {{path}} || umount {{path}} || umount -l /dev/shm || umount -l /dev")
            assert not os.access(path, os.W_OK)
        assert not os.path.exists("/dev/shm/proc")
"""
BUBBLEWRAP = f"""{INNER}
    def test_it(): sh("bwrap --bind / / --unshare-all --proc /proc --dev /dev true")
"""
IN_IT = f"""{INNER}
    def test_files_are_its_own(): open("written", "w").close()

    def test_it_has_processes_of_its_own(): assert [name for name in os.listdir("/proc") if name == "1"]

    def test_a_third_one_says_why_it_cannot_be():
        done = run_pytest("innermost.py")
        assert "1 error" in done.stdout, done.stdout + done.stderr
        assert "cannot mount overlay on " in done.stdout
        assert "Overlays can be stacked two deep" in done.stdout
"""


def write_in(project: Project, **sources: str) -> None:
    # Within a sandbox there are no control groups.
    options = repr([option for option in project.options if not option.startswith("--isolate-cgroup")])
    project.write(**{name: source.replace("OPTIONS", options) for name, source in sources.items()})


def test_a_nested_test_mounts_and_runs_isolated_tests_itself(project: Project) -> None:
    write_in(project, test_outer=OUTER, inner=IN_IT, innermost="def test_it(): pass")

    result = project.isolated("--isolate-nested=true", "test_outer.py")

    result.assert_outcomes(passed=3, skipped=1)
    assert not (project.path / "written").exists()
    assert not os.path.exists("/mnt/mounted")


@pytest.mark.needs("bwrap")
def test_bubblewrap_works_in_it(project: Project) -> None:
    write_in(project, test_outer=BUBBLEWRAP)

    project.isolated("--isolate-nested=true").assert_outcomes(passed=1)


@pytest.mark.needs("real_root")
def test_without_it_roots_tests_are_told_what_they_need(project: Project) -> None:
    write_in(project, test_outer=f"{INNER}\n    def test_it(): print(run_pytest('innermost.py').stdout); assert 0")
    project.write(innermost="def test_it(): pass")

    result = project.isolated("test_outer.py")

    result.stdout.fnmatch_lines(
        ["isolate cannot be enforced here: cannot mount proc on /new: EPERM *isolate(nested=True)*"]
    )
