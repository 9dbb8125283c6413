"""pydevd, the debugger of VS Code (in debugpy) and PyCharm: a test's process has the editor's breakpoints as well.

It talks to the editor in threads, which a fork does not have: the child would wait for them at the first breakpoint.
For programs that fork it connects anew from the child, to a port of the host's loopback, which is opened here.

Private: ``client`` and ``port`` of ``pydevd.SetupHolder``, ``get_global_debugger``, ``PyDevdAPI.get_ppid``,
``_on_forked_process`` and ``send_process_created_message`` of ``pydev_monkey``, ``is_pydev_daemon_thread``. Seen in
debugpy 1.8; PyCharm's own has them, too.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_isolate.linux.calls import calls
from pytest_isolate.plugin import fixtures
from pytest_isolate.plugin.integrations.integration import Forwarder, Integration

if TYPE_CHECKING:
    from pytest_isolate.sandbox.channel import Line
    from pytest_isolate.spec.spec import Spec

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Debugger(Integration):
    """Nothing where no editor is connected."""

    def stands_alone(self, item: pytest.Item) -> bool:
        """So that somebody is asked about one test at a time."""
        return port() is not None

    def before(self, item: pytest.Item, attempts: int) -> None:
        """Open the port of the editor, or of debugpy's adapter, and tell it that a process comes."""
        if (opened := port()) is not None:
            self.config.stash[fixtures.OPEN_PORTS].add(opened)
            _monkey().send_process_created_message()

    def around(self, item: pytest.Item) -> Forwarder | None:
        """The child is a program of its own to the editor."""
        return None if port() is None else partial(_debug, calls.getpid())


def port() -> int | None:
    """Where the debugger connects to; None if nobody debugs."""
    pydevd: Any = sys.modules.get("pydevd")
    setup = getattr(getattr(pydevd, "SetupHolder", None), "setup", None)
    if not isinstance(setup, dict) or pydevd.get_global_debugger() is None or setup.get("client") not in _LOOPBACK:
        return None
    return int(setup["port"]) if setup.get("port") else None


def owns(thread: threading.Thread) -> bool:
    """Whether it is one of those that talk to the editor."""
    return bool(getattr(thread, "is_pydev_daemon_thread", False))


def connect(parent: int, spec: Spec) -> None:
    """In a fork: connect anew, if the sandbox is to reach the editor; else there are no breakpoints in it.

    :param parent: pid of the process that the editor knows. By it the editor finds the session that this one belongs
        to, and in a namespace of pids the parent's is 0.
    """
    if spec.network != "host" and spec.host_ports is None:
        _stop()
        return
    if (api := sys.modules.get("_pydevd_bundle.pydevd_api")) is not None:
        api.PyDevdAPI.get_ppid = lambda _: parent
    _monkey()._on_forked_process()


def _stop() -> None:
    """In a fork: no breakpoint stops it any more."""
    threading.settrace(None)
    sys.settrace(None)
    if (monitoring := getattr(sys, "monitoring", None)) is not None and monitoring.get_tool(monitoring.DEBUGGER_ID):
        monitoring.set_events(monitoring.DEBUGGER_ID, 0)
        for event in range(monitoring.events.PY_THROW.bit_length()):
            monitoring.register_callback(monitoring.DEBUGGER_ID, 1 << event, None)  # events of single functions stay


def _monkey() -> Any:
    return sys.modules["_pydev_bundle.pydev_monkey"]


@contextmanager
def _debug(parent: int, line: Line) -> Iterator[None]:
    """In the child, which ends with the test. At a breakpoint it waits for somebody, so it has no time-out."""
    line.attended()
    connect(parent, line.spec)
    yield
