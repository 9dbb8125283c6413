"""Starts pytest on projects made for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.endurance.machine import MARKER, Machine

REPOSITORY = Path(__file__).parent.parent.parent
EMPTY = """
import os, pytest

@pytest.mark.isolate
@pytest.mark.parametrize("number", range(int(os.environ["ENDURANCE_TESTS"])))
def test_empty(number):
    pass
"""
#: Leaves processes and files, has a network, takes its time: something to interrupt at any moment.
BUSY = """
import os, subprocess, time
import pytest

if "ENDURANCE_BRIDGE" in os.environ:
    @pytest.mark.isolate(network="bridge")
    def test_has_a_network():
        time.sleep(0.05)

@pytest.mark.isolate
@pytest.mark.parametrize("number", range(int(os.environ["ENDURANCE_TESTS"])))
def test_leaves_something(number):
    with open("/tmp/left", "w") as file:
        file.write("x" * 100_000)
    if number % 3 == 0:
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
    time.sleep(0.02)

@pytest.mark.isolate(memory="100M", pids=50, timeout=300)
def test_has_limits():
    time.sleep(0.05)
"""


class Project:
    """A folder with tests, in which pytest is started."""

    def __init__(self, folder: Path, tests: str, machine: Machine) -> None:
        self.folder, self._machine = folder, machine
        folder.mkdir()
        (folder / "test_it.py").write_text(tests)

    def start(self, number: int, *options: str, figures: str = "", **more: str) -> subprocess.Popen[bytes]:
        """A pytest in a session of its own, with so many tests; its output goes to the file ``out``."""
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
        command += ["-p", "xdist", "-p", "pytest_isolate.plugin.hooks"]
        command += ["-p", "tests.endurance.sampler", f"--rootdir={self.folder}", "--isolate-usage=0", *options, "."]
        environment = dict(
            os.environ,
            PYTHONPATH=str(REPOSITORY),
            TMPDIR=str(self._machine.folder),
            ENDURANCE_TESTS=str(number),
            ENDURANCE_FIGURES=figures,
            PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",  # half of the time of a short run goes into other plugins
            **{MARKER: str(os.getpid())},
            **more,
        )
        with (self.folder / "out").open("wb") as out:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=out, stderr=out, start_new_session=True
            )
        self._machine.sessions.append(process.pid)
        return process

    def last_words(self) -> str:
        return (self.folder / "out").read_text("utf-8", "replace").strip().rpartition("\n")[2]


def figures_in(folder: Path) -> dict[str, list[dict[str, float]]]:
    """What each process wrote down (sampler.py), by pid."""
    return {path.stem: [*map(json.loads, path.read_text().splitlines())] for path in sorted(folder.glob("*.json"))}
