"""The name of a session: later sessions, and this one's own fixtures' servers, are told apart by it."""

from __future__ import annotations

import os

from pytest_isolate.cgroups.session_names import session_name


def new_name() -> str:
    """A name for the session that this process leads."""
    return session_name()


def mark_descendants(name: str) -> None:
    """Put the name into the environment, by which servers that fixtures start are known as the session's."""
    from pytest_isolate.session.network.session_listeners import COOKIE  # noqa: PLC0415 - an xdist controller has none

    os.environ[COOKIE] = name
