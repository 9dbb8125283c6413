"""Lines for pytest's header that only a worker of pytest-xdist knows, for its controller, which has the terminal.

xdist carries no message of ours before a worker's end. So the first worker writes into a file in the controller's
memory, which is there under /proc (memfd_create(2)) and goes with it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import pytest

from pytest_isolate.linux.calls import calls

_NAME = "isolate-header"
_PATH = "isolate_header"  # key in ``workerinput`` of the worker that is to write
_FILE: pytest.StashKey[int] = pytest.StashKey()  # in the controller's ``config.stash``: the descriptor


def ask(node: Any) -> None:
    """In the controller, before it starts the worker of ``node``: have the first one write, if it is a local one."""
    if _FILE in node.config.stash or not getattr(node.gateway.spec, "popen", False):
        return
    node.config.stash[_FILE] = descriptor = calls.memfd_create(_NAME)
    node.workerinput[_PATH] = f"/proc/{calls.getpid()}/fd/{descriptor}"


def is_asked(config: pytest.Config) -> bool:
    """Whether this process is the worker that is to write."""
    return _PATH in getattr(config, "workerinput", {})


def tell(config: pytest.Config, lines: list[str]) -> None:
    """In that worker, before it tells that it has collected."""
    path = config.workerinput[_PATH]  # type: ignore[attr-defined]
    with suppress(OSError):  # /proc may be another one here: then there are no such lines
        if calls.readlink(path).startswith(f"/memfd:{_NAME}"):
            descriptor = calls.open(path, os.O_WRONLY | os.O_CLOEXEC)
            calls.write(descriptor, "\n".join(lines).encode("utf-8", "surrogateescape"))
            calls.close(descriptor)


def take(node: Any) -> list[str]:
    """In the controller, once the worker of ``node`` has collected: what it wrote."""
    if _PATH not in node.workerinput:
        return []
    descriptor = node.config.stash[_FILE]
    text = calls.pread(descriptor, 1 << 16, 0).decode("utf-8", "replace")
    calls.close(descriptor)
    return text.splitlines()
