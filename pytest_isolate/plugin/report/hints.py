"""What in the sandbox may be behind a test's failure: shown beside it, never instead of it."""

from __future__ import annotations

import errno
import re
from collections.abc import Collection, Mapping

from pytest_isolate.linux.calls import calls
from pytest_isolate.spec.sizes import size_text
from pytest_isolate.spec.spec import Spec

_FULL = (calls.strerror(errno.ENOSPC),)
_OTHER_DEVICE = (calls.strerror(errno.EXDEV),)
_UNMAPPED = (calls.strerror(errno.EOVERFLOW),)
_REFUSED = (calls.strerror(errno.ECONNREFUSED),)
_INVALID = (calls.strerror(errno.EINVAL),)
#: What takes a user or a group: system calls, programs, and Popen's arguments in a traceback.
_OWNERS = re.compile(r"chown|chgrp|\bset(re|res)?[ug]id\b|\bsetgroups\b|\b(user|group|extra_groups)=")
#: How messages of clients name one: PostgreSQL's, Docker's, MySQL's, URLs; and Python's calls in a traceback.
_UNIX_SOCKET = re.compile(
    r"\.sock\b|\bsocket .?/|\bunix:|\bUnix(-domain)? socket|\bAF_UNIX\b|_unix_connection\b", re.IGNORECASE
)
#: How they name an address of IP: by name, by number, by the two that a connect(2) of Python's has.
_IP_ADDRESS = re.compile(r"\blocalhost\b|\b127\.|::1\b|\bport\b|\('[^']*', [0-9]+", re.IGNORECASE)
#: Of connect(2); of getaddrinfo(3), by Python and by C programs; of curl.
_NO_WAY_OUT = (
    calls.strerror(errno.ENETUNREACH),
    "Temporary failure in name resolution",
    "Name or service not known",
    "Could not resolve host",
)
#: Of setsockopt(2) that joins a group, where no route says by which interface; the line is in the traceback.
_NO_MULTICASTS = (f"[Errno {errno.ENODEV}]",)
_MULTICAST = re.compile(r"ADD_(SOURCE_)?MEMBERSHIP|JOIN_GROUP|multicast", re.IGNORECASE)
#: Of an object that is not what the test expects: a list of what a server was sent, for one.
_ASSERTION = re.compile(r"AssertionError|^E\s+assert ", re.MULTILINE)
_SHARED = (
    "The fixture {name} runs a thread in pytest's own process: neither sees what the other changes in their objects. "
    '"isolate_fixtures_inside = {name}" in the ini file sets the fixture up in each sandbox.'
)
_RENAMED = (
    "Where the header says rootless, rename(2) refuses a folder that was there before the test (EXDEV), and what it is "
    "to take from one top-level folder to another. Let a function-scoped fixture make the folder, move it by mv or "
    "shutil.move, which copy it then, or bind the folder above through by writable=[FOLDER]; as root it works."
)
_UNNAMED = (
    "Where the header says rootless, a sandbox knows one user and one group, the test's own. chown(2), setuid(2) and "
    "their like, and so user= and group= of subprocess, refuse all others as invalid (EINVAL), where a plain run has "
    "EPERM; as root it works."
)
_FOREIGN = (
    "Where the header says rootless, a sandbox can name no user and no group but the test's own. So what has another "
    "owner or group cannot be copied into it to be changed, nor what is in such a folder (EOVERFLOW), though its mode "
    "lets the user write. Let both be the user's, or bind the folder through by writable=[FOLDER]; as root it works."
)
_NAMED = (
    "The host's name is {inside} in the sandbox and {outside} outside, where modules are imported that ask for it. "
    '"isolate_hostname = {outside}" in the ini file makes the two equal.'
)
_NUMBERED = (
    "{outside} is the number of pytest's own process, outside of the sandbox: what a module or a higher-scoped fixture "
    "has kept by os.getpid(). Ask for the number in the test."
)
_ENDED = (
    "Such an end is os._exit, or exit in C, in the test itself or in a hook or fixture that runs round it. A guard in "
    "conftest.py that ends each process but the one that imported it ends every isolated test."
)
_COPIED_SOCKET = (
    "The file of a Unix socket of the host is only copied into the sandbox, where nobody listens on it. With "
    "--isolate-session tests reach those that fixtures have bound; all others by writable=[FOLDER], the folder that "
    "the file is in."
)
_NAMED_THREADS = 5
_FEW = 999
_WITHOUT_RESULT = (" without a result",)
#: What ends a wait for a thread: the sandbox's time-out, the test's own, that of a queue.
_WAITED_IN_VAIN = ("exceeded timeout=", "made no progress for ", "TimeoutError", "queue.Empty")


def hints(
    spec: Spec, text: str, threads: Mapping[str, str | None] | None = None, fixtures: Collection[str] = ()
) -> list[str]:
    """Sentences on what in the sandbox may have caused the failure that ``text`` shows, a traceback or output.

    :param threads: names of those that pytest's process had beside the one that forked, each with the name of the
        higher-scoped fixture that started it, if one did.
    :param fixtures: names of the test's own fixtures.
    """
    found = []
    if threads and _names(_WAITED_IN_VAIN, text):
        found.append(_no_threads(threads, fixtures))
    if _names(_FULL, text):
        cap = size_text(spec.limits.disk)
        found.append(f'disk="{cap}" is all that the test may write; if that was full, a larger disk=... helps.')
    if _names(_OTHER_DEVICE, text):
        found.append(_RENAMED)
    if _names(_UNMAPPED, text):
        found.append(_FOREIGN)
    if _names(_INVALID, text) and _OWNERS.search(text):
        found.append(_UNNAMED)
    if _names(_REFUSED, text) and _UNIX_SOCKET.search(text):
        found.append(_COPIED_SOCKET)
    if spec.network != "host":
        found += _of_network(spec.network, text)
    if not found and _ASSERTION.search(text):
        running = {fixture for name, fixture in (threads or {}).items() if "(native)" not in name}
        shared = {fixture for fixture in running if fixture is not None and fixture in fixtures}
        found = [_SHARED.format(name=name) for name in sorted(shared)]
        found += _of_host_name(spec.hostname, text)
        found += _of_number(text)
    if not found and _names(_WITHOUT_RESULT, text):
        found = [_ENDED]
    return found


def _of_host_name(inside: str, text: str) -> list[str]:
    outside = calls.gethostname()
    if inside == outside or not all(_is_told(name, text) for name in (inside, outside)):
        return []
    return [_NAMED.format(inside=inside, outside=outside)]


def _of_number(text: str) -> list[str]:
    """A small number, as of pytest in a container, is likely to be something else."""
    outside = calls.getpid()
    about_processes = outside > _FEW and "pid" in text.lower()
    return [_NUMBERED.format(outside=outside)] if about_processes and _is_told(str(outside), text) else []


def _is_told(word: str, text: str) -> bool:
    """Whether it is in what the failure itself says, not in the code round it."""
    told = " ".join(line for line in text.splitlines() if line.startswith("E "))
    return re.search(rf"\b{re.escape(word)}\b", told) is not None


def _of_network(network: str, text: str) -> list[str]:
    """:param network: any but the host's."""
    found = []
    ways = 'network="nat" has one, network="host" the host\'s'
    if _names(_NO_WAY_OUT, text) and network != "nat":
        found.append(f'network="{network}" has no way to the outside; {ways}.')
    if _names(_NO_MULTICASTS, text) and _MULTICAST.search(text) and network != "nat":
        found.append(f'network="{network}" has no route for multicasts; {ways}.')
    if _names(_REFUSED, text) and (_IP_ADDRESS.search(text) or not _UNIX_SOCKET.search(text)):
        found.append(
            "127.0.0.1 and ::1 are the sandbox's own; a server on the host's loopback that no fixture has started "
            "is reached by host_ports=[PORT], or by the fixture isolate_open_port if the port is not known before."
        )
    return found


def _no_threads(threads: Mapping[str, str | None], own: Collection[str]) -> str:
    """:param own: names of the test's fixtures: those of them that have threads are the ones to name."""
    more = len(threads) - _NAMED_THREADS
    named = ", ".join([*threads][:_NAMED_THREADS]) + (f" and {more} more" if more > 0 else "")
    fixtures = sorted({fixture for fixture in threads.values() if fixture is not None})
    fixtures = [fixture for fixture in fixtures if fixture in own] or fixtures
    way = "start it in a function-scoped fixture"
    if fixtures:
        way = f'"isolate_fixtures_inside = {" ".join(fixtures)}" in the ini file sets its fixture up in each sandbox'
    return (
        f"A sandbox has no threads of pytest's own process (here {named}), only a copy of their objects. "
        f"If the test waits for one, {way}, or mark the test no_isolate."
    )


def _names(errors: tuple[str, ...], text: str) -> bool:
    return any(error in text for error in errors)
