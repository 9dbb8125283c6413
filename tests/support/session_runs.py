"""Runs with ``--isolate-session`` that a test starts, watches and interrupts."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.project import Project

PATIENCE = 240  #: seconds that a run may take on a machine that has much to do


def start(project: Project, *options: str, terminal: int | None = None) -> subprocess.Popen[str]:
    """A pytest of its own, as a shell starts it: not deaf to a hang-up where this one is, as under nohup(1).

    :param terminal: that it is started from, as the leader of its session.
    """
    own = ["setsid"] if terminal is None else ["setsid", "--ctty"]
    program = [sys.executable, "-m", "pytest", *project.options, "--isolate-session", *options]
    return subprocess.Popen(
        [*own, "env", "--default-signal=HUP", *program],
        cwd=project.path,
        stdin=terminal,
        stdout=subprocess.PIPE if terminal is None else terminal,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def running(project: Project, *options: str, terminal: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """The same, in the middle of a test."""
    writable = [f"--isolate{of}-writable={project.path}" for of in ("-session", "")]
    process = start(project, "-p", "no:cacheprovider", *writable, *options, terminal=terminal)
    try:
        deadline = time.monotonic() + 60
        while not (project.path / "begun").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
