"""What would ruin a machine, and passes: each test does its worst to a world that is thrown away after it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.isolate


def test_removes_etc_and_the_home_folder():
    """What may not be removed outside may not be removed inside either: a user keeps /etc, root does not."""
    home = Path.home()
    before = set(home.iterdir())

    # Five seconds of it are enough for a large home: files first, and folders as far as it gets.
    names = sorted(before, key=Path.is_dir)
    subprocess.run(["timeout", "5", "rm", "-rf", "/etc", *names], check=False, stderr=subprocess.DEVNULL)

    assert not before or set(home.iterdir()) < before
    assert Path("/etc/passwd").exists() == (os.getuid() != 0)


def test_after_it_finds_everything_in_place():
    assert Path("/etc/passwd").exists()


@pytest.mark.parametrize("turn", ["first", "second"])
def test_serves_on_port_80(turn):  # noqa: ARG001 - only its name differs
    """Without being root, and the second time as if there had been no first."""
    server = socket.create_server(("127.0.0.1", 80))

    client = socket.create_connection(("127.0.0.1", 80))

    assert server.accept()
    client.close()


def test_kills_every_process_there_is():
    """There is only what the test has started itself; PID 1 is spared by kill(2)."""
    child = subprocess.Popen(["sleep", "3600"])

    os.kill(-1, signal.SIGKILL)

    assert child.wait() == -signal.SIGKILL


def test_leaves_a_daemon_behind():
    """The runner looks for it afterwards."""
    subprocess.Popen(["setsid", "sleep", "86399"])


def test_fills_the_temporary_folder(tmp_path):
    for directory in (tmp_path, Path("/tmp")):
        (directory / "isolate-demo-rubbish").write_bytes(bytes(10 << 20))
