"""pydevd, the debugger of VS Code (in debugpy) and PyCharm: a test's process has the editor's breakpoints as well.

It talks to the editor in threads, which a fork does not have: the child would wait for them at the first breakpoint.
For programs that fork it connects anew from the child, to a port of the host's loopback, which is opened here.

Private: ``SetupHolder``, ``_is_attached``, ``get_global_debugger`` and ``dispatch`` of ``pydevd``; of ``pydev_monkey``
``_on_forked_process`` and ``send_process_created_message``; ``PyDevdAPI.get_ppid``, ``is_pydev_daemon_thread``. Seen in
debugpy 1.8 and PyCharm's debugger of 2026.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_isolate.linux.calls import calls
from pytest_isolate.plugin import fixtures
from pytest_isolate.plugin.integrations.integration import Forwarder, Integration

if TYPE_CHECKING:
    from pytest_isolate.sandbox.channel import Line
    from pytest_isolate.spec.spec import Spec


class Address(NamedTuple):
    """Where an editor waits for a process that is to be debugged."""

    host: str
    port: int

    def is_local(self) -> bool:
        """Whether a port of the host's loopback leads there."""
        return self.host in ("127.0.0.1", "localhost", "::1")


class Debugger(Integration):
    """Nothing where no editor is connected."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._refused = False  #: as PyCharm is not reached from a session sandbox
        self._opened = 0  #: port

    def stands_alone(self, item: pytest.Item) -> bool:
        """So that somebody is asked about one test at a time."""
        return is_attached()

    def around(self, item: pytest.Item) -> Forwarder | None:
        """The child is a program of its own to the editor."""
        if not is_attached():
            return None
        address = None if self._refused else expect()
        self._refused = address is None
        if address is not None and address.is_local() and address.port != self._opened:
            self.config.stash[fixtures.OPEN_PORTS].discard(self._opened)
            self.config.stash[fixtures.OPEN_PORTS].add(address.port)
            self._opened = address.port
        return partial(_debug, calls.getpid(), address)


def is_attached() -> bool:
    """Whether an editor debugs this process. debugpy may wait for one; PyCharm is there from the start."""
    pydevd: Any = sys.modules.get("pydevd")
    setup = getattr(getattr(pydevd, "SetupHolder", None), "setup", None)
    if not isinstance(setup, dict) or not setup.get("port"):
        return False
    return pydevd._is_attached() if hasattr(pydevd, "_is_attached") else pydevd.get_global_debugger() is not None


def expect() -> Address | None:
    """Where the next process is to connect to; None if the editor cannot be asked.

    PyCharm is asked, and opens a port for each.
    """
    try:
        host, port = sys.modules["pydevd"].dispatch()
    except (OSError, SystemExit):
        return None
    _monkey().send_process_created_message()
    return Address(str(host), int(port)) if port else None


def owns(thread: threading.Thread) -> bool:
    """Whether it is one of those that talk to the editor."""
    return bool(getattr(thread, "is_pydev_daemon_thread", False))


def connect(parent: int, address: Address | None, spec: Spec) -> None:
    """In a fork: connect anew, if the sandbox is to reach the editor; else there are no breakpoints in it.

    :param parent: pid of the process that the editor knows. By it the editor finds the session that this one belongs
        to, and in a namespace of pids the parent's is 0.
    :param address: of :func:`expect`.
    """
    has_door = address is not None and address.is_local() and spec.host_ports is not None
    if address is None or not (has_door or spec.network == "host"):
        _stop()
        return
    if (api := sys.modules.get("_pydevd_bundle.pydevd_api")) is not None:
        api.PyDevdAPI.get_ppid = lambda _: parent
    pydevd: Any = sys.modules["pydevd"]
    dispatch, pydevd.dispatch = pydevd.dispatch, lambda: address
    _monkey()._on_forked_process()
    pydevd.dispatch = dispatch


def _stop() -> None:
    """In a fork: no breakpoint stops it any more."""
    sys.modules["pydevd_tracing"].restore_sys_set_trace_func()  # its own warns
    threading.settrace(None)
    sys.settrace(None)
    if (monitoring := getattr(sys, "monitoring", None)) is not None and monitoring.get_tool(monitoring.DEBUGGER_ID):
        monitoring.set_events(monitoring.DEBUGGER_ID, 0)
        for event in range(monitoring.events.PY_THROW.bit_length()):
            monitoring.register_callback(monitoring.DEBUGGER_ID, 1 << event, None)  # events of single functions stay


def _monkey() -> Any:
    return sys.modules["_pydev_bundle.pydev_monkey"]


@contextmanager
def _debug(parent: int, address: Address | None, line: Line) -> Iterator[None]:
    """In the child, which ends with the test. At a breakpoint it waits for somebody, so it has no time-out."""
    line.attended()
    connect(parent, address, line.spec)
    yield
