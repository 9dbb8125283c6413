"""One group as a directory: reading, writing, emptying, removing it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pytest_isolate.linux import files
from pytest_isolate.linux.calls import calls

#: rmdir answers EBUSY until the kernel has let go of the last process. That takes a millisecond, but on a busy or an
#: emulated machine more than the second in all that runc waits. In seconds: five in all.
_PAUSES = (*(0.001 * 2**doubled for doubled in range(7)), *[0.1] * 49)
_LOCK_SECONDS = 10.0


def get(path: str) -> str:
    """The content of a file, without the last newline."""
    return files.read_text(path).strip()


def put(path: str, text: str) -> None:
    """Write ``text`` into an existing file in one write(2), as the kernel's control files want it.

    :raises OSError: of the open or the write, with the path.
    """
    descriptor = calls.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        calls.write(descriptor, text.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        calls.close(descriptor)


def slurp(path: str) -> bytes:
    """The content of a control file by three system calls, as it is read for each test; empty if there is none."""
    try:
        descriptor = calls.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return calls.read(descriptor, 1 << 16)
    except OSError:
        return b""  # the group was removed meanwhile: ENODEV
    finally:
        calls.close(descriptor)


def number(content: bytes) -> int | None:
    """The number that a control file consists of, or None if it is missing (or ``max``)."""
    return int(content) if content[:1].isdigit() else None


def entry(content: bytes, key: bytes) -> int | None:
    """The number after ``key`` in a file of lines ``KEY NUMBER``."""
    for line in content.splitlines():
        if line.startswith(key + b" "):
            return int(line[len(key) + 1 :])
    return None


def pids(directory: str) -> tuple[int, ...]:
    """Processes in the group itself. 0 stands for one that our pid namespace does not show."""
    return tuple(map(int, slurp_all(f"{directory}/cgroup.procs").split()))


def slurp_all(path: str) -> str:
    """The whole of a file that may be long; empty if there is none."""
    try:
        return files.read_text(path)
    except OSError:
        return ""


def children(directory: str) -> list[str]:
    """Names of the groups directly below."""
    try:
        with calls.scandir(directory) as entries:
            return sorted(one.name for one in entries if one.is_dir(follow_symlinks=False))
    except OSError:
        return []


def clear(top: str) -> None:
    """Kill all that lives in and below ``top`` and remove it, bottom up.

    :raises OSError: if that fails; not if it is gone already.
    """
    for pause in (*_PAUSES, None):
        groups = list(_bottom_up(top))
        for group in groups:
            _kill(group)
        try:
            for group in groups:
                with suppress(FileNotFoundError):
                    calls.rmdir(group)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY) or pause is None:
                raise
            calls.sleep(pause)
        else:
            return


def rmdir(directory: str) -> bool:
    """Remove an empty group; False if it is in use."""
    for pause in _PAUSES:
        try:
            calls.rmdir(directory)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno != errno.EBUSY or children(directory) or pids(directory):
                return False
            calls.sleep(pause)
        else:
            return True
    return False


@contextmanager
def lock(directory: str) -> Iterator[None]:
    """Hold the directory's flock(2), so that sessions that share a group change it one after another.

    :raises OSError: EAGAIN if another process holds it for ten seconds.
    """
    descriptor = calls.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = calls.monotonic() + _LOCK_SECONDS
        while True:
            try:
                calls.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                # Every user who can read the directory can hold its lock: wait, but not for ever.
                if calls.monotonic() > deadline:
                    raise OSError(error.errno, "locked by another process", directory) from None
                calls.sleep(0.01)
        yield
    finally:
        calls.close(descriptor)


def _bottom_up(top: str) -> Iterator[str]:
    for child in children(top):
        yield from _bottom_up(f"{top}/{child}")
    yield top


def _kill(group: str) -> None:
    """Kill what is in a group: by cgroup.kill from 5.14 on, else one by one; the next call meets what was forked."""
    try:
        put(f"{group}/cgroup.kill", "1")
    except OSError:
        for pid in pids(group):
            if pid not in (0, calls.getpid()):
                with suppress(ProcessLookupError, PermissionError):
                    calls.kill(pid, signal.SIGKILL)
        with suppress(OSError):
            put(f"{group}/freezer.state", "THAWED")  # on v1 a frozen process does not die
