"""Hosts that lack something, made by unshare(1): what becomes of isolated tests there, in each of the three ways."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest

from pytest_isolate.linux.native import landlock_version

pytestmark = pytest.mark.needs("sandbox")

#: What is done in fresh user and mount namespaces before pytest starts in them.
NO_USER_NAMESPACES = "echo 0 >/proc/sys/user/max_user_namespaces"
NO_CGROUPS = "mount -t tmpfs none /sys/fs/cgroup"


def run_where(project: Any, lack: str, *arguments: str) -> pytest.RunResult:
    """A run on a host with ``lack``."""
    command = project.pytester._getpytestargs()
    options = [option for option in project.options if not option.startswith("--isolate-cgroup")]
    script = f"{lack} && exec {shlex.join([*map(str, command), *options, '-p', 'no:cacheprovider', *arguments])}"
    result: pytest.RunResult = project.pytester.run(
        "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script
    )
    return result


TESTS = """
    import os
    import time
    import pytest

    @pytest.mark.isolate
    def test_writes():
        for name in ("/tmp/isolate-degraded", "/var/lib/isolate-degraded"):
            try:
                with open(name, "w"):
                    print("written:", name)
                os.unlink(name)
            except PermissionError:
                print("refused:", name)

    @pytest.mark.isolate
    def test_leaves_a_process():
        import subprocess
        subprocess.Popen(["sleep", "98765"])

    def commands():
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                yield open(f"/proc/{name}/cmdline").read()
            except OSError:
                pass  # it has ended

    def test_is_not_isolated():
        assert any(commands())
        # It has been killed, but dies when it gets to run, on a busy machine a moment later.
        for _ in range(500):
            if not any(command.startswith("sleep\\0" + "98765") for command in commands()):
                return
            time.sleep(0.01)
        pytest.fail("the process that another test left still runs")
"""


def test_without_user_namespaces_a_test_is_an_error_that_names_the_setting(project: Any) -> None:
    project.pytester.makepyfile(TESTS)

    result = run_where(project, NO_USER_NAMESPACES)

    result.assert_outcomes(errors=2, passed=1)
    result.stdout.fnmatch_lines(
        ["isolate cannot be enforced here: cannot clone PID 1 into its namespaces: ENOSPC*user.max_user_namespaces=*"]
    )
    result.stdout.no_fnmatch_line("*written:*")


def test_without_user_namespaces_a_test_is_skipped_on_request(project: Any) -> None:
    project.pytester.makepyfile(TESTS)

    result = run_where(project, NO_USER_NAMESPACES, "--isolate-unsupported=skip", "-rs")

    result.assert_outcomes(skipped=2, passed=1)
    result.stdout.fnmatch_lines(["SKIPPED * isolate cannot be enforced here: *ENOSPC*"])


def test_without_user_namespaces_a_degraded_test_may_write_in_temporary_folders_only_and_leaves_no_process(
    project: Any,
) -> None:
    project.pytester.makepyfile(TESTS)

    result = run_where(project, NO_USER_NAMESPACES, "--isolate-unsupported=degrade", "-rP")

    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["isolate: NOT in force (--isolate-unsupported=degrade): isolate"])
    result.stdout.fnmatch_lines(["*isolated with less than asked for*", "isolate: cannot clone PID 1*instead: *"])
    if landlock_version():
        result.stdout.fnmatch_lines(["written: /tmp/isolate-degraded", "refused: /var/lib/isolate-degraded"])


MEMORY = """
    import pytest

    @pytest.mark.isolate(memory="50M")
    def test_eats():
        with pytest.raises(MemoryError):
            bytearray(200 << 20)
        assert len(bytearray(20 << 20)) == 20 << 20
"""


def test_without_cgroups_a_cap_is_an_error_that_says_why(project: Any) -> None:
    project.pytester.makepyfile(MEMORY)

    result = run_where(project, NO_CGROUPS)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["memory cannot be enforced here: *"])


def test_without_cgroups_a_degraded_test_has_a_limit_for_each_process_and_is_still_in_a_sandbox(project: Any) -> None:
    project.pytester.makepyfile(MEMORY + "        assert __import__('os').getpid() < 10\n")

    result = run_where(project, NO_CGROUPS, "--isolate-unsupported=degrade", "--junitxml=junit.xml")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["isolate: NOT in force (--isolate-unsupported=degrade): memory"])
    assert 'name="isolate_degraded" value="memory: ' in (project.path / "junit.xml").read_text()


def test_a_file_that_goes_while_the_session_runs_disturbs_no_test(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import os
        import pytest

        @pytest.mark.isolate
        def test_before():
            assert open("gone").read() == "here\\n" and os.stat("gone").st_mode & 0o777 == 0o640

        @pytest.mark.no_isolate
        def test_takes_it_away():
            os.remove("gone")

        @pytest.mark.isolate
        @pytest.mark.parametrize("number", range(5))
        def test_after(number):
            assert not os.path.exists("gone") or number == 0  # the first had been built before
        """
    )

    # A mount beside it: without root, the files of its folder are shown one by one.
    result = run_where(project, "mkdir beside && mount -t tmpfs none beside && echo here >gone && chmod 640 gone")

    result.assert_outcomes(passed=7)


def test_a_mount_that_goes_while_the_session_runs_disturbs_no_test(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import os, subprocess
        import pytest

        @pytest.mark.isolate
        def test_before():
            assert os.path.isdir("gone")

        def test_takes_it_away():
            subprocess.run(["umount", "gone"], check=True)
            os.rmdir("gone")

        @pytest.mark.isolate
        @pytest.mark.parametrize("number", range(5))
        def test_after(number):
            assert not os.path.exists("gone")
        """
    )

    result = run_where(project, "mkdir gone && mount -t tmpfs none gone")

    result.assert_outcomes(passed=7)


def test_a_cgroup_that_does_not_exist_is_a_usage_error(project: Any) -> None:
    project.pytester.makepyfile("def test_it(): pass")

    result = project.run("--isolate-all", "--isolate-cgroup=/isolate-nowhere")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --isolate-cgroup=/isolate-nowhere: no controller is usable there: *"])


def test_an_xdist_worker_says_so_of_each_test(project: Any) -> None:
    pytest.importorskip("xdist")
    project.pytester.makepyfile("def test_it(): pass")

    result = project.run("--isolate-all", "--isolate-cgroup=/isolate-nowhere", "-n1", "-p", "xdist")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["--isolate-cgroup=/isolate-nowhere: no controller is usable there: *"])


def run_doctor(lack: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command on a host with ``lack``."""
    command = shlex.join([sys.executable, "-m", "pytest_isolate", "doctor", *arguments])
    script = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f"{lack} && exec {command}"]
    return subprocess.run(script, capture_output=True, text=True, check=False, timeout=300)


def test_the_doctor_names_the_setting_that_forbids_sandboxes() -> None:
    result = run_doctor(NO_USER_NAMESPACES)

    assert result.returncode == 1, result.stderr
    assert re.search(r"^sandbox +(weaker|lacking) ", result.stdout, re.MULTILINE)
    assert "sudo sysctl -w user.max_user_namespaces=10000" in result.stdout
    assert "No test can be isolated as it asks to be: sandbox." in result.stdout


def test_the_doctor_tells_a_program_which_limits_do_not_work_and_what_a_test_costs() -> None:
    result = run_doctor(NO_CGROUPS, "--json", "--strict", "sandbox", "memory,network")

    found = json.loads(result.stdout)
    assert result.returncode == 1, result.stderr
    assert found["missed"] == ["memory"]
    assert found["capabilities"]["memory"]["stand_in"]
    assert 0 < found["cost"]["fork_seconds"] < found["cost"]["test_seconds"]


def test_the_doctor_knows_no_other_capabilities() -> None:
    result = run_doctor("true", "--strict", "memroy")

    assert result.returncode == 2
    assert "there is no capability memroy; choose among sandbox, overlay" in result.stderr


@pytest.mark.needs("mount-proc")
def test_where_pytest_is_the_second_process_of_a_container_its_tests_have_other_numbers(project: Any) -> None:
    """As under bubblewrap, or an init. By the number, libraries know that they are in a fork."""
    project.write(
        test_it="""
        import os

        OUTSIDE = os.getpid()

        def test_it():
            assert OUTSIDE == 2 != os.getpid()
        """
    )
    inner = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *project.options, "--isolate-all"]
    shell = ["sh", "-c", '"$@" & wait $!', "sh"]
    command = ["unshare", "--user", "--map-current-user", "--pid", "--fork", "--mount-proc", *shell, *inner]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=project.path)

    assert "1 passed" in done.stdout, done.stdout + done.stderr
