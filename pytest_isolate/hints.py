"""What in the sandbox may be behind a test's failure: told beside it, never instead of it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Mapping

from pytest_isolate.spec import Spec
from pytest_isolate.values import size_text

_FULL = (os.strerror(errno.ENOSPC),)
_REFUSED = (os.strerror(errno.ECONNREFUSED),)
#: How messages of clients name one: PostgreSQL's, Docker's, MySQL's, URLs.
_UNIX_SOCKET = re.compile(r"\.sock\b|\bsocket .?/|\bunix:|\bUnix(-domain)? socket", re.IGNORECASE)
#: Of connect(2); of getaddrinfo(3), by Python and by C programs; of curl.
_NO_WAY_OUT = (
    os.strerror(errno.ENETUNREACH),
    "Temporary failure in name resolution",
    "Name or service not known",
    "Could not resolve host",
)
#: Of an object that is not what the test expects: a list of what a server was sent, for one.
_ASSERTION = re.compile(r"AssertionError|^E\s+assert ", re.MULTILINE)
_SHARED = (
    "The fixture {name} runs a thread in pytest's own process: neither sees what the other changes in their objects. "
    '"isolate_fixtures_inside = {name}" in the ini file sets the fixture up in each sandbox.'
)
_NAMED_THREADS = 5
#: What ends a wait for a thread: the sandbox's time-out, the test's own, that of a queue.
_WAITED_IN_VAIN = ("exceeded timeout=", "TimeoutError", "queue.Empty")


def hints(
    spec: Spec, text: str, threads: Mapping[str, str | None] | None = None, fixtures: Collection[str] = ()
) -> list[str]:
    """Sentences on what in the sandbox may have caused what ``text``, a traceback or output, tells of.

    :param threads: names of those that pytest's process had beside the one that forked, each with the name of the
        wider-scoped fixture that started it, if one did.
    :param fixtures: names of the test's own fixtures.
    """
    found = []
    if threads and _names(_WAITED_IN_VAIN, text):
        found.append(_no_threads(threads))
    if _names(_FULL, text):
        cap = size_text(spec.limits.disk)
        found.append(f'disk="{cap}" is all that the test may write; if that was full, a larger disk=... helps.')
    if _names(_REFUSED, text) and _UNIX_SOCKET.search(text):
        found.append(
            "The file of a host's Unix socket is only copied into the sandbox, where nobody listens on it; the server "
            "is reached by writable=[FOLDER], the folder that the file is in."
        )
    if spec.network != "host":
        if _names(_NO_WAY_OUT, text) and spec.network != "nat":
            ways = 'network="nat" has one, network="host" the host\'s'
            found.append(f'network="{spec.network}" has no way to the outside; {ways}.')
        if _names(_REFUSED, text):
            found.append(
                "127.0.0.1 and ::1 are the sandbox's own; a server on the host's loopback that no fixture has started "
                "is reached by host_ports=[PORT], or by the fixture isolate_open_port if the port is not known before."
            )
    if not found and _ASSERTION.search(text):
        shared = {fixture for fixture in (threads or {}).values() if fixture is not None and fixture in fixtures}
        found = [_SHARED.format(name=name) for name in sorted(shared)]
    return found


def _no_threads(threads: Mapping[str, str | None]) -> str:
    named = ", ".join([*threads][:_NAMED_THREADS]) + (", ..." if len(threads) > _NAMED_THREADS else "")
    fixtures = sorted({fixture for fixture in threads.values() if fixture is not None})
    way = "start it in a function-scoped fixture"
    if fixtures:
        way = f'"isolate_fixtures_inside = {" ".join(fixtures)}" in the ini file sets its fixture up in each sandbox'
    return (
        f"A sandbox has no threads of pytest's own process (here {named}), only a copy of their objects. "
        f"If the test waits for one, {way}, or mark the test no_isolate."
    )


def _names(errors: tuple[str, ...], text: str) -> bool:
    return any(error in text for error in errors)
