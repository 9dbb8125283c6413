"""One sandboxed run in which strace makes one system call of the C core fail; prints what came of it, in JSON.

usage: python -m tests.kernel.failing_calls PLACE STRACE-OPTION...

PLACE says which processes strace follows, from when on:

- ``start``: the builder, from its first call;
- ``starter``: the program that starts it;
- ``builder``: the builder, once it has found out about the host;
- ``init``: the same, and the sandboxes that it makes;
- ``enter``: this process, and the child that it forks;
- ``launch``: a program's way into a sandbox.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_isolate import Spec, run
from pytest_isolate.linux import native
from pytest_isolate.session.cluster import Network
from pytest_isolate.session.keeper import Keeper
from pytest_isolate.spec.errors import IsolateError

_NAMESPACES = ("pid", "mnt", "uts", "ipc", "net")
_STATUS = ("Seccomp", "NoNewPrivs", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_SHOW = """
import os
for name in {namespaces}: print(name, os.readlink(f"/proc/self/ns/{{name}}"))
print(*(line for line in open("/proc/self/status") if line.split(":")[0] in {status}))
open({probe!r}, "w").close()
"""


def main(place: str, options: list[str]) -> dict[str, object]:
    """``passed``, whether it was sandboxed, and what restricts it; or ``error``."""
    probe = f"/var/tmp/isolate-probe-{os.getpid()}"  # inside, the sandbox's own
    try:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            seen = _run(place, options, probe, folder).splitlines()
    except (IsolateError, OSError) as error:  # the latter by its folder, as of subprocess.Popen
        return {"error": str(error)}
    inside = dict(line.split(" ", 1) for line in seen if line.split(" ")[0] in _NAMESPACES)
    shared = [name for name in _NAMESPACES if inside.get(name) == os.readlink(f"/proc/self/ns/{name}")]
    return {
        "sandboxed": len(inside) == len(_NAMESPACES) and not shared and not Path(probe).exists(),
        "restrictions": [line for line in seen if line.split(" ")[0] not in inside],
    }


def _run(place: str, options: list[str], probe: str, folder: str) -> str:
    command = [sys.executable, "-c", _SHOW.format(namespaces=_NAMESPACES, status=_STATUS, probe=probe)]

    def show() -> str:
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout

    if place == "start":
        native.BUILDER = _wrapper(options, folder)
    if place == "starter":
        native.STARTER = _wrapper(["-f", "-b", "execve", *options], folder)
    with Keeper(cgroup=os.environ.get("ISOLATE_CGROUP")) as keeper:
        if place == "launch":
            native.BUILDER = _wrapper(["-f", *options], folder)
            with Network(keeper) as network:
                return str(network.node("n").run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        pid = {"enter": os.getpid(), "start": None, "starter": None}.get(place, keeper.sandboxes.builders.own.pid)
        spec = Spec.of(pids=200) if "pids" in keeper.sandboxes.tree.controllers else Spec.of()
        keeper.check(spec)
        with _attached(pid, ["-f"] * (place in {"init", "enter"}) + options):
            outcome = run(spec, show, keeper=keeper)
        if problem := outcome.failure():
            raise IsolateError(str(problem))
        return str(outcome.value)


def _wrapper(options: list[str], folder: str) -> Path:
    """The builder's program under strace. ``-D``: it stays our child, and strace is its."""
    script = Path(folder, "builder")
    words = " ".join(f"'{option}'" for option in options)
    script.write_text(f'#!/bin/sh\nexec strace -D -qq {words} {native.BUILDER} "$@"\n')
    script.chmod(0o755)
    return script


@contextmanager
def _attached(pid: int | None, options: list[str]) -> Iterator[None]:
    if pid is None:
        yield
        return
    strace = subprocess.Popen(["strace", "-p", str(pid), *options], stderr=subprocess.PIPE, start_new_session=True)
    assert strace.stderr is not None
    try:
        while b"attached" not in (line := strace.stderr.readline()):
            assert line, "strace has ended"
        yield
    finally:
        strace.terminate()
        strace.stderr.read()
        strace.wait()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], sys.argv[2:])) + "\n")
