"""However a test ends, it ends alone: the run goes on, the report says how, and nothing of it is left."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.needs("sandbox")

DEATHS = {
    "SIGSEGV": ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV"),
    "abort": ("os.abort()", "killed by SIGABRT"),
    "SIGKILL to itself": ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
    "SIGTERM to itself": ("os.kill(os.getpid(), signal.SIGTERM)", "killed by SIGTERM"),
    # The parent is outside the pid namespace: getppid() is 0, and kill(0, ...) means the process group.
    "SIGKILL to its parent": ("os.kill(os.getppid(), 9)", "killed by SIGKILL"),
    "exit status 0": ("os._exit(0)", "exited with status 0 without a result"),
    "exit status 3": ("os._exit(3)", "exited with status 3 without a result"),
    "a program in its place": ("os.execvp('true', ['true'])", "exited with status 0 without a result"),
}


@pytest.mark.parametrize("way", DEATHS)
def test_a_test_that_dies_is_a_failure_that_says_how_and_the_run_goes_on(project: Any, way: str) -> None:
    code, sentence = DEATHS[way]
    project.pytester.makepyfile(
        f"""
        import os, signal, sys
        import pytest

        @pytest.mark.isolate
        def test_dies():
            print("last words")
            os.write(2, b"and on stderr\\n")
            sys.stdout.flush()
            {code}

        @pytest.mark.isolate
        def test_after_it():
            assert True
        """
    )

    result = project.run()

    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [f"*{sentence}*", "*Captured stdout call*", "last words", "*Captured stderr call*", "and on stderr"]
    )
    if way in ("SIGSEGV", "abort"):
        result.stdout.fnmatch_lines(
            ["*Stacks (faulthandler)*", "*in test_dies*", "  ... * frames of pytest; --full-trace shows them"]
        )


def test_kill_minus_1_hits_nothing_outside(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import os, signal, subprocess
        import pytest

        @pytest.mark.isolate
        def test_kills_all():
            victim = subprocess.Popen(["sleep", "60"])
            os.kill(-1, signal.SIGKILL)
            assert victim.wait(10) == -signal.SIGKILL

        def test_outside():
            assert os.getpid() > 2
        """
    )

    result = project.run()

    result.assert_outcomes(passed=2)


def test_a_double_forked_daemon_does_not_outlive_its_test(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import os, time
        import pytest

        @pytest.mark.isolate
        def test_daemonises():
            reader, writer = os.pipe()
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    while os.getppid() != 1:
                        time.sleep(0.01)
                    os.write(writer, b"adopted by PID 1")
                    os.execvp("sleep", ["sleep", "6173"])
                os._exit(0)
            os.wait()
            assert os.read(reader, 100) == b"adopted by PID 1"

        def daemons():
            for name in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open(f"/proc/{name}/cmdline", "rb") as file:
                        if file.read() == b"sleep\\x006173\\x00":
                            yield name
                except OSError:
                    continue

        @pytest.mark.no_isolate
        def test_after_it():
            deadline = time.monotonic() + 30
            while (found := [*daemons()]) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert found == []
        """
    )

    result = project.run()

    result.assert_outcomes(passed=2)
    assert commands("6173") == []


def test_a_thousand_orphaned_zombies_are_reaped(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import os, time
        import pytest

        def zombies():
            states = []
            for name in filter(str.isdigit, os.listdir("/proc")):
                try:
                    states.append(open(f"/proc/{name}/stat").read().rpartition(")")[2].split()[0])
                except OSError:
                    pass
            return states.count("Z")

        @pytest.mark.isolate
        def test_orphans():
            if os.fork() == 0:
                for _ in range(1000):
                    os.posix_spawn("/bin/true", ["true"], {})
                os._exit(0)  # leaves its dead children to PID 1
            os.wait()
            deadline = time.monotonic() + 20
            while zombies() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert zombies() == 0
        """
    )

    result = project.run()

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["one after another", "two workers"])
def test_twenty_tests_bind_port_80_and_none_reaches_the_hosts_loopback(project: Any, options: list[str]) -> None:
    if options:
        pytest.importorskip("xdist")
    project.pytester.makepyfile(
        """
        import socket
        import pytest

        @pytest.mark.parametrize("number", range(20))
        @pytest.mark.isolate
        def test_binds(number):
            server = socket.create_server(("127.0.0.1", 80))
            client = socket.create_connection(server.getsockname(), timeout=5)
            v6 = socket.create_server(("::1", 80), family=socket.AF_INET6)
            port = int(open("port").read())
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=5)
        """
    )
    with socket.create_server(("127.0.0.1", 0)) as host:
        (project.path / "port").write_text(str(host.getsockname()[1]))

        result = project.run(*options)

    result.assert_outcomes(passed=20)


def commands(word: str) -> list[str]:
    """Command lines on the host that have ``word`` in them, once there has been time to end."""
    deadline = time.monotonic() + 5
    while True:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                except OSError:
                    continue
                if word in line.split():
                    found.append(line)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)
