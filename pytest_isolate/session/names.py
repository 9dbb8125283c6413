"""The name of a session: later sessions, and this one's own fixtures' servers, are told apart by it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from pytest_isolate.cgroups.session_names import session_name


def new_name() -> str:
    """A name for the session that this process leads."""
    return session_name()


def new_worker(session: str) -> str:
    """A name for the only worker of ``session``; another one if this process runs pytest within pytest.

    That is what pytester does: two keepers of one process, whose groups must not be the same.
    """
    from pytest_isolate.session.network.session_listeners import COOKIE  # noqa: PLC0415 - as below

    return "main" if os.environ.get(COOKIE) != session else f"inner{time.monotonic_ns()}"


def mark_descendants(name: str) -> Callable[[], None]:
    """Put the name into the environment, by which servers that fixtures start are known as the session's.

    :return: puts back what was there: the name of the run that this one is within, for one.
    """
    from pytest_isolate.session.network.session_listeners import COOKIE  # noqa: PLC0415 - an xdist controller has none

    before = os.environ.get(COOKIE)
    os.environ[COOKIE] = name

    def undo() -> None:
        if os.environ.get(COOKIE) == name:
            if before is None:
                del os.environ[COOKIE]
            else:
                os.environ[COOKIE] = before

    return undo
