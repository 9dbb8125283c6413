"""debugpy, with which VS Code debugs: its breakpoints stop isolated tests, and those of a session sandbox."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.editor import Editor, Stop
from tests.support.neighbourhood import Neighbourhood

PATIENCE = 120  #: seconds that a run may take on a machine that has much to do
TESTS = """
import os
def add_one(number):
    return number + 1
def test_one(): assert add_one(1) == 2
def test_two(): assert add_one(2) == 3
"""
LINE = 4


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def debugged(neighbours: Neighbourhood, port: int, *options: str) -> tuple[list[Stop], str]:
    """Where a run stopped that has a breakpoint at ``LINE``, and what it showed."""
    file, shown = Path(neighbours.path, "test_it.py"), Path(neighbours.path, "shown")
    file.write_text(TESTS)
    debugger = [sys.executable, "-Xfrozen_modules=off", "-m", "debugpy", "--listen", str(port), "--wait-for-client"]
    command = [*debugger, "-m", "pytest", *neighbours.project.options, *options, "test_it.py"]
    with shown.open("w") as output:  # no pipe: debugpy's adapter keeps it open for some time
        process = subprocess.Popen(command, cwd=neighbours.path, stdout=output, stderr=subprocess.STDOUT)
    try:
        stops = Editor(port, file, [LINE]).debug()
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
    return stops, shown.read_text()


@pytest.mark.needs("sandbox", "debugpy")
@pytest.mark.parametrize("options", [["--isolate-jobs=2"], ["--isolate-session"]], ids=" ".join)
def test_a_breakpoint_stops_each_isolated_test(neighbours: Neighbourhood, free_port: int, options: list[str]) -> None:
    stops, shown = debugged(neighbours, free_port, "--isolate-all", *options, "--isolate-timeout=10")
    assert "2 passed" in shown, shown
    assert stops == [Stop("child", "add_one", LINE)] * 2


@pytest.mark.needs("sandbox", "debugpy")
def test_a_breakpoint_stops_a_test_of_a_session_sandbox(neighbours: Neighbourhood, free_port: int) -> None:
    stops, shown = debugged(neighbours, free_port, "--isolate-session")
    assert "2 passed" in shown, shown
    assert stops == [Stop("child", "add_one", LINE)] * 2


@pytest.mark.needs("sandbox", "debugpy")
def test_a_test_that_is_to_reach_nothing_of_the_host_runs_without_stopping(
    neighbours: Neighbourhood, free_port: int
) -> None:
    stops, shown = debugged(neighbours, free_port, "--isolate-all", "--isolate-host-port=none")
    assert "2 passed" in shown, shown
    assert stops == []
