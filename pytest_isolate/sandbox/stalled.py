"""Whether processes can ever go on: each thread waits for a lock that only they themselves could release.

That is how a test ends that needs a thread of pytest's process: a native thread pool (polars, OpenBLAS), or a lock that
another thread held when the test was forked. A plain ``os.fork()`` hangs there for ever.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable

from pytest_isolate.linux import procfs
from pytest_isolate.linux.calls import calls

_FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine(), -1)
_PRIVATE = 128  # of linux/futex.h: a lock in memory that no other process has; those of multiprocessing lack it
_WAITS = {0, 6, 9, 11, 13}  # FUTEX_WAIT, LOCK_PI, WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2
_OP, _TIMEOUT = 2, 4  # words of proc_pid_syscall(5)

#: A thread, the lock that it waits for, and how often it has slept so far.
Wait = tuple[int, str, str]


def waits(pids: Iterable[int]) -> frozenset[Wait] | None:
    """What each thread of these processes waits for; None if one of them works, or waits for anything else.

    Where two looks, some time apart, find the same, no thread has run in between: none of them ever will, but for a
    signal. None as well where the kernel does not show it (CONFIG_HAVE_ARCH_TRACEHOOK).
    """
    found = set()
    for pid in pids:
        if procfs.state(pid) == "Z":
            continue
        try:
            threads = calls.listdir(f"/proc/{pid}/task")
        except OSError:
            return None  # it ends just now
        for thread in threads:
            words = procfs.read(pid, f"task/{thread}/syscall").split()
            if not _is_endless(words):
                return None
            status = procfs.read(pid, f"task/{thread}/status")
            switches = status.rpartition("\nvoluntary_ctxt_switches:")[2].split()
            found.add((int(thread), words[1], switches[0] if switches else ""))
    return frozenset(found) or None


def _is_endless(words: list[str]) -> bool:
    """Whether a system call is the wait for a lock of the process's own, without a time-out."""
    if len(words) <= _TIMEOUT or words[0] != str(_FUTEX):
        return False
    operation = int(words[_OP], 16)
    return bool(operation & _PRIVATE) and operation & 127 in _WAITS and int(words[_TIMEOUT], 16) == 0


class StallPatience:
    """Looks three times in ``seconds`` whether a run can still go on; never if that is 0."""

    def __init__(self, seconds: float, started: float) -> None:
        self._seconds, self._interval = seconds, seconds / 3
        self._waits: frozenset[Wait] | None = None
        self._since = started
        self.next_look: float | None = started + self._interval if seconds else None  #: by calls.monotonic()

    def is_over(self, now: float, pids: Callable[[], Iterable[int]]) -> bool:
        """Whether all that ``pids`` names has waited in vain for that long; looks only if it is time to."""
        if self.next_look is None or now < self.next_look:
            return False
        self.next_look = now + self._interval
        seen = waits(pids())
        if seen is None or seen != self._waits:
            self._waits, self._since = seen, now
        return seen is not None and now - self._since >= self._seconds - self._interval
