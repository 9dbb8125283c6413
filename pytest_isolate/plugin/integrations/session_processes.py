"""Handles of processes that fixtures of higher scope have started: what they answer in a test is the truth.

Those processes are no children of the test, and not in its pid namespace. Python takes that for their end: a
``Popen`` then says that the server has ended well. So the child gets a pidfd of each, and asks the keeper for the
status of one that has ended. It can send them no signal; the same number may be another process inside.

Only where pytest has child processes is anything replaced, in the child: the methods of handles, for those made before
the fork, and :func:`os.waitpid` and :func:`os.kill`, for numbers that are nobody's inside.
"""

from __future__ import annotations

import errno
import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_isolate.linux.calls import calls
from pytest_isolate.plugin import fixtures
from pytest_isolate.plugin.integrations import process_handles
from pytest_isolate.plugin.integrations.integration import Forwarder, Integration
from pytest_isolate.session.child_processes import ChildProcesses

if TYPE_CHECKING:
    from pytest_isolate.sandbox.channel import Line


_UNKNOWN = 255


class SessionProcesses(Integration):
    """Costs a system call for each test of a session without child processes."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._children = ChildProcesses()

    def around(self, item: pytest.Item) -> Forwarder | None:
        running = self.config.stash.get(fixtures.RUNNING, None)
        pidfds = self._children.look(running() if running is not None else ())
        return partial(_answer_truly, pidfds, calls.getpid()) if pidfds else None

    def finish(self) -> None:
        self._children.close()


@contextmanager
def _answer_truly(pidfds: Mapping[int, int], outside: int, line: Line) -> Iterator[None]:
    """In the child, which ends with the test: nothing is put back."""
    process_handles.mend(Session(pidfds, outside, line.status), sys.modules)
    yield


class Session:
    """What the child knows of the session's processes."""

    def __init__(self, pidfds: Mapping[int, int], outside: int, ask: Callable[[int], int | None]) -> None:
        """:param outside: pytest's pid. :param ask: how a process ended."""
        self.pidfds = pidfds
        self.outside = outside
        self._ask = ask
        self._owner = calls.getpid()
        self._foreign: dict[int, object] = {}  # handles by id(), which are the session's

    def owns(self, handle: Any) -> bool:
        """Whether a handle is of a process of the session's: it has the number, and was made before the fork.

        What was made before is frozen (:func:`gc.freeze`), and :func:`gc.get_objects` does not list it.
        """
        if getattr(handle, "pid", None) not in self.pidfds:
            return False
        if id(handle) not in self._foreign and self.is_older(handle):
            self._foreign[id(handle)] = handle
        return id(handle) in self._foreign

    @staticmethod
    def is_older(handle: object) -> bool:
        """Whether it was made before the fork."""
        return not any(each is handle for each in gc.get_objects())

    def has_ended(self, pid: int, seconds: float | None = 0) -> bool:
        """Whether the process has, within ``seconds``; None: for ever."""
        waiting = calls.poll()
        waiting.register(self.pidfds[pid])
        return bool(waiting.poll(None if seconds is None else max(0, seconds * 1000)))

    def status(self, pid: int) -> int:
        """How it ended, as ``Popen.returncode`` says it.

        :return: 255 if nobody knows, as asyncio and the handles of a fork server say: a thread of pytest's process has
            waited for it, or this is a process that the test has forked, which cannot ask.
        """
        status = self._ask(pid) if calls.getpid() == self._owner else None
        return _UNKNOWN if status is None else status

    def refuse(self, pid: int, what: str = "") -> PermissionError:
        """Why a process cannot be signalled."""
        return PermissionError(
            errno.EPERM,
            f"cannot signal process {pid}{what and f' ({what})'}: it was started outside of this test's sandbox, by a "
            "fixture of class, module, package or session scope. A test can see whether it runs, and cannot end it. "
            "Start it in a fixture of function scope, name its fixture in isolate_fixtures_inside, or mark the test "
            "no_isolate",
        )
