"""Runs of pytest, forked off a process that has imported it: each starts in a third of the time.

The module has both ends: :class:`ForkServer`, and what its process does, which runs this file as a script. The process
has imported pytest, pytest's own plugins, and what an isolated run of ours loads. Each run still imports each plugin of
the environment itself, our :mod:`pytest_isolate.plugin.hooks` included.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from _pytest.assertion.rewrite import AssertionRewritingHook
from _pytest.config import default_plugins
from _pytest.pathlib import make_numbered_dir

#: Variables that are read as a module loads, ours included: a run that changes one needs a process of its own.
_READ_AT_START = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "COVERAGE_", "ISOLATE_DEBUG")
#: What loads nearly all that an isolated run loads of ours: a fifth of the time that it takes.
_OURS = ("config.options", "integrations.registry", "report.conclusion", "run.isolated_item", "run.isolation")


class ForkServer:
    """A process that forks runs of pytest. It ends with the one that started it.

    A run has the environment and the folder of the test that asks for it. What else a process inherits, limits and
    masks, is what this process had as the server started: a test that changes them starts pytest by itself.
    """

    def __init__(self) -> None:
        self._environment = _read_at_start(os.environ)
        ours, its = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(its.fileno())], pass_fds=[its.fileno()], stdin=subprocess.DEVNULL
        )
        its.close()
        self._socket = ours
        self._answers = ours.makefile("r")
        self._is_lost = False

    def run(self, pytester: pytest.Pytester, arguments: Sequence[str], seconds: float = 300) -> pytest.RunResult:
        """As :meth:`pytest.Pytester.runpytest_subprocess`, and so where this server cannot do it."""
        if self._is_lost or _read_at_start(os.environ) != self._environment:
            return pytester.runpytest_subprocess(*arguments, timeout=seconds)
        begin = time.monotonic()
        base = make_numbered_dir(root=pytester.path, prefix="runpytest-", mode=0o700)
        status = self._status([f"--basetemp={base}", *arguments], pytester.path, seconds)
        output, errors = (pytester.path.joinpath(name).read_text().splitlines() for name in ("stdout", "stderr"))
        for lines, stream in (output, sys.stdout), (errors, sys.stderr):
            print(*lines, sep="\n", file=stream)  # pytest shows it of a test that fails
        return pytest.RunResult(status, output, errors, time.monotonic() - begin)

    def _status(self, arguments: list[str], output: Path, seconds: float) -> int:
        """Of ``pytest ARGUMENTS``, negative for a signal's number. The folder gets its ``stdout`` and ``stderr``."""
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.getcwd(), environment.get("PYTHONPATH")]))
        request = {"arguments": arguments, "folder": os.getcwd(), "environment": environment, "output": str(output)}
        self._socket.settimeout(seconds)
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        pid = int(self._answers.readline())
        try:
            return int(self._answers.readline())
        except BaseException:  # too late, or whoever waits is interrupted: the answer would be taken for the next one's
            self._is_lost = True
            os.kill(pid, signal.SIGKILL)
            raise

    def close(self) -> None:
        self._answers.close()
        self._socket.close()
        self._process.wait(10)


@pytest.fixture(scope="session")
def forkserver() -> Iterator[ForkServer]:
    """The session's, which starts with its first run."""
    server = ForkServer()
    yield server
    server.close()


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in environment.items() if name.startswith(_READ_AT_START) and name != "PYTHONPATH"
    }


def _serve(number: int) -> dict[str, Any] | None:
    """Fork a run for each request; in the fork return the request, and None when nobody is left who asks."""
    connection = socket.socket(fileno=number)
    # Ctrl-C reaches the runs, too, and whoever waits for them.
    with contextlib.suppress(KeyboardInterrupt):
        for line in connection.makefile("r"):
            if (pid := os.fork()) == 0:
                connection.close()
                request: dict[str, Any] = json.loads(line)
                return request
            # Whoever asked may have been killed: the run goes on, as one that a pytester has started does.
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(b"%d\n" % pid)
                connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return None


def _become(request: Mapping[str, Any], paths: Sequence[str]) -> NoReturn:
    """Be what ``python -m pytest`` would be."""
    os.chdir(request["folder"])
    for fd, name in (1, "stdout"), (2, "stderr"):
        file = os.open(os.path.join(request["output"], name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(file, fd)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:] = [request["folder"], *request["environment"]["PYTHONPATH"].split(os.pathsep), *paths]
    sys.argv = ["pytest", *request["arguments"]]
    sys.modules["pytest_isolate.plugin.fixtures"].forget_first_threads()
    importlib.invalidate_caches()
    runpy.run_module("pytest", run_name="__main__", alter_sys=True)
    raise AssertionError("pytest did not exit")


def _mark_rewrite(
    hook: AssertionRewritingHook, *names: str, mark: Callable[..., None] = AssertionRewritingHook.mark_rewrite
) -> None:
    """Leave our package out: as it loads it undoes that, but here it was loaded before, of which pytest would warn."""
    mark(hook, *(name for name in names if name != "pytest_isolate"))


def _main() -> None:
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [path for path in sys.path[1:] if path not in given]  # its first is this file's folder
    sys.path.append(str(Path(__file__).parent.parent.parent))  # for ours, where it is not installed
    for name in default_plugins:
        importlib.import_module(f"_pytest.{name}")
    AssertionRewritingHook.mark_rewrite = _mark_rewrite  # type: ignore[method-assign,assignment]
    for name in _OURS:
        importlib.import_module(f"pytest_isolate.plugin.{name}")
    gc.freeze()  # pytest collects garbage five times as it ends, and would write to each page that it has from here
    if (request := _serve(int(sys.argv[1]))) is not None:
        _become(request, paths)


if __name__ == "__main__":
    _main()
