"""Inside: what of a test is still there when its tear-down is over: ports, threads, IPC objects; where it tried to go.

Processes and files are looked for from outside, when the child has ended (:mod:`pytest_isolate.session.leaks`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from pytest_isolate.linux import files, tcp_table
from pytest_isolate.linux.calls import calls
from pytest_isolate.sandbox.channel import Frame, Line
from pytest_isolate.sandbox.network_look import Attempts
from pytest_isolate.sandbox.outcome import Leak

#: For what has been told to end, and does: a server that was terminated, a thread that nobody joined.
_PATIENCE_SECONDS = 0.1
_LOOK_SECONDS = 0.01
#: Networks on which a test may go where it likes.
_HAVE_A_WAY = ("host", "nat")
#: Files of proc_sysvipc(5), and what their lines are about.
_SYSTEM_V = {"shm": "shared memory", "sem": "semaphores", "msg": "message queue"}
#: Of POSIX: shm_overview(7), sem_overview(7), mq_overview(7).
_FOLDERS = ("/dev/shm", "/dev/mqueue")  # noqa: S108 - looked at, not written to


def watched(body: Callable[[Line], None]) -> Callable[[Line], None]:
    """``body``, and then a message for each thing that it has left behind."""

    def run(line: Line) -> None:
        before = _Inside.look()
        attempts = None if line.spec.network in _HAVE_A_WAY else Attempts.watch()
        body(line)
        found = _settled(before)
        if attempts is not None:
            found += attempts.left()
        for leak in found:
            line.send(Frame.LEFT, [leak.kind, leak.name, leak.detail])

    return run


def _settled(before: _Inside) -> list[Leak]:
    """What is left when all that was ending has ended."""
    deadline = calls.monotonic() + _PATIENCE_SECONDS
    while (found := [*_find(before)]) and calls.monotonic() < deadline:
        calls.sleep(_LOOK_SECONDS)
    return found


@dataclass(frozen=True, slots=True)
class _Inside:
    """What there is in the sandbox at one moment."""

    sockets: dict[int, str]  #: inode -> pid of a process that has it
    objects: frozenset[str]  #: names of IPC objects

    @classmethod
    def look(cls) -> _Inside:
        return cls(sockets=dict(_sockets()), objects=frozenset(_objects()))


def _find(before: _Inside) -> Iterator[Leak]:
    now = _Inside.look()
    yield from _ports({inode: pid for inode, pid in now.sockets.items() if inode not in before.sockets})
    main = threading.main_thread(), threading.current_thread()
    for thread in threading.enumerate():
        if thread not in main and not _is_nobodys(thread):
            yield Leak("thread", thread.name, "daemon" if thread.daemon else "")
    yield from (Leak("ipc", name, "") for name in sorted(now.objects - before.objects))


def _ports(fresh: dict[int, str]) -> Iterator[Leak]:
    """Those that sockets of the sandbox listen on. With network="host" the table has the machine's, too."""
    listening: list[tcp_table.Listener] = []
    if fresh:  # after most tests there are none: to read the table the kernel goes through all that it has room for
        with suppress(OSError):
            listening = [each for each in tcp_table.listening() if each.inode in fresh]
    for each in listening:
        ip, port = tcp_table.decode(each.address)
        name = f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"  # noqa: PLR2004 - IPv6
        yield Leak("port", name, _describe(fresh[each.inode]))


def _is_nobodys(thread: threading.Thread) -> bool:
    """Whether it is a thread of a C library that has called Python once, or one that Trio keeps for later, for 10 s."""
    return isinstance(thread, threading._DummyThread) or thread.name.startswith("Trio thread ")  # noqa: SLF001 - no public name


def _objects() -> Iterator[str]:
    for name, what in _SYSTEM_V.items():
        with suppress(OSError):
            for line in files.read_text(f"/proc/sysvipc/{name}").splitlines()[1:]:
                yield f"{what} {line.split()[1]}"
    for folder in _FOLDERS:
        with suppress(OSError):
            yield from (f"{folder}/{name}" for name in calls.listdir(folder))


def _sockets() -> Iterator[tuple[int, str]]:
    """Inode of each socket that processes of the sandbox have, and the pid; last the one that was there first."""
    for process in sorted(filter(str.isdigit, calls.listdir("/proc")), key=int, reverse=True):
        with suppress(OSError):  # it has ended, or is another user by now
            for name in calls.listdir(f"/proc/{process}/fd"):
                with suppress(OSError):
                    link = calls.readlink(f"/proc/{process}/fd/{name}")
                    if link.startswith("socket:["):
                        yield int(link[8:-1]), process


def _describe(process: str) -> str:
    if int(process) == calls.getpid():
        return "of the test itself"
    with suppress(OSError):
        words = files.read_bytes(f"/proc/{process}/cmdline").decode("utf-8", "replace").split("\0")
        return f"of {os.path.basename(words[0])}, process {process}"
    return f"of process {process}"
