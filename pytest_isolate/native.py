"""The typed face of the C core, ``_native/core.c``: the only module that imports cffi's."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NewType

from pytest_isolate.errors import SetupError
from pytest_isolate.outcome import Change
from pytest_isolate.plan import Clone, Plan

try:
    from pytest_isolate._native._core import ffi as _ffi
    from pytest_isolate._native._core import lib as _lib
except ImportError as error:  # not Linux, or an installation without the compiled part
    _missing: ImportError | None = error
else:
    _missing = None

Fd = NewType("Fd", int)

#: The program that makes sandboxes; see the top of ``_native/builder.c``.
BUILDER = Path(__file__).with_name("_native") / "builder"

_CWD = "enter the current folder"
#: What the child was doing when it gave up, in the order of ``enum isolate_step`` in enter.h.
_STEPS = (
    "",
    "join the sandbox's namespaces (setns)",
    "fork",
    "enter its cgroup",
    "make its cgroup and time namespaces (unshare)",
    "join its time namespace (setns)",
    "start a session (setsid)",
    _CWD,
    "set the CPU affinity",
    "set a resource limit",
    "drop capabilities",
    "set no_new_privs",
    "install the seccomp filter",
    "install the Landlock rules",
)


#: What to send to a process of :func:`launch_command` instead of signals that it cannot receive (``launch.c``).
HANDED_ON: dict[int, int] = {signal.SIGKILL: signal.SIGRTMAX, signal.SIGSTOP: signal.SIGRTMAX - 1}

_TROUBLE = struct.Struct("=ii")
_LONGEST = 1e9  # seconds: fits into the nanoseconds of an int64_t


def available() -> str | None:
    """None if the C core can be used, else why not."""
    if _missing is not None:
        return f"the compiled part of pytest-isolate-ns is missing ({_missing})"
    if not os.access(BUILDER, os.X_OK):
        return f"{BUILDER} is missing or cannot be executed"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a process needs to enter one sandbox: descriptors of this process, and where it goes on."""

    init_pidfd: Fd  #: PID 1 of the sandbox
    attach: tuple[Fd, ...]  #: cgroup files to enter by
    close: tuple[Fd, ...]  #: descriptors that the test must not have
    cwd: str
    # Where the host lacks something, and the user chose to go on (pytest_isolate.degrade):
    cores: tuple[int, ...] = ()  #: for sched_setaffinity(2)
    rlimits: tuple[tuple[int, int], ...] = ()  #: for setrlimit(2): number, value
    landlock: tuple[str, ...] | None = None  #: the only trees that may be written; None: no Landlock


class Forker:
    """Forks this process into sandboxes.

    Holds the page in which a child says what went wrong before Python runs in it.
    """

    def __init__(self) -> None:
        """:raises SetupError: if there is no memory for that page."""
        self._pid, self._pidfd = -1, _ffi.new("int *", -1)
        self._watch = _ffi.new("struct isolate_watch *")
        self._mask = _ffi.new("char[]", _lib.isolate_mask_size())
        self._trouble = _lib.isolate_shared_trouble()
        if not self._trouble:
            raise SetupError("map a shared page", "", _ffi.errno)

    def fork(self, plan: Plan, entry: Entry, *, bell: Fd | None = None, timeout: float | None = None) -> tuple[int, Fd]:
        """``(0, -1)`` in the child, its pid and a pidfd in this process, which :meth:`reap` closes.

        Python's and libc's fork hooks have run, and all of ``plan``'s restrictions are in force in the child.

        :param bell: where this process has no other thread, return only when the child has ended, or this can be
            read, or a signal has come, or after ``timeout`` seconds. Until then no Python runs here, which would copy
            what the child still shares. None: return at once.
        :raises SetupError: if there is no child. One that fails on its way in is told by :meth:`trouble`, after
            it ended.
        """
        keep: list[Any] = []  # cffi frees what nothing refers to

        def array(kind: str, values: bytes | Sequence[Any]) -> Any:
            keep.append(_ffi.new(kind, values))
            return keep[-1]

        data = _ffi.new("struct isolate_entry *")
        data.init_pidfd = entry.init_pidfd
        data.join, data.join_late, data.unshare_late = int(plan.join), int(plan.join_late), int(plan.unshare_late)
        data.attach, data.attach_count = array("int[]", entry.attach), len(entry.attach)
        data.close, data.close_count = array("int[]", entry.close), len(entry.close)
        data.cwd = array("char[]", os.fsencode(entry.cwd))
        data.capabilities, data.keep_credentials = plan.capabilities, not plan.joins(Clone.NEWUSER)
        data.no_new_privs, data.seccomp = plan.no_new_privs, plan.seccomp
        data.cores, data.core_count = array("int[]", entry.cores), len(entry.cores)
        data.rlimits = array("uint64_t[]", [number for pair in entry.rlimits for number in pair])
        data.rlimit_count = len(entry.rlimits)
        writable = [array("char[]", os.fsencode(path)) for path in entry.landlock or ()]
        data.landlock_writable = array("char *[]", writable)
        data.landlock_count = -1 if entry.landlock is None else len(writable)
        self._watch.bell = -1 if bell is None else bell
        self._watch.patience = -1 if timeout is None else int(min(timeout, _LONGEST) * 1e9)
        # An exception that a signal handler raises within one of Python's fork hooks (logging has some) is printed
        # and ignored: Ctrl-C would be lost. So it is raised here, before the fork or after it.
        _lib.isolate_block_signals(self._mask)
        try:
            self._pid = _lib.isolate_fork(data, self._watch, self._mask, self._pidfd, self._trouble)
        finally:
            _lib.isolate_restore_signals(self._mask)
        if self._pid < 0:
            raise SetupError(_STEPS[self._trouble.step], "", self._trouble.error)
        return self._pid, Fd(self._pidfd[0])

    def child(self) -> tuple[int, Fd] | None:
        """What :meth:`fork` was about to return when a KeyboardInterrupt came; None if that came before the fork."""
        return None if self._pidfd[0] < 0 else (self._pid, Fd(self._pidfd[0]))

    def seconds(self) -> float:
        """How long the last fork took, without what came before and after."""
        return float(self._watch.forking) / 1e9

    def reap(self) -> None:
        """Close the last child's pidfd; if the child is still there, end it and wait for it.

        By what the C side wrote down, not by what :meth:`fork` returned: a KeyboardInterrupt can come in between, and
        a child that nobody waits for would keep its sandbox from being taken down.
        """
        pidfd, self._pidfd[0] = self._pidfd[0], -1
        if pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError):  # reaped already
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)

    def trouble(self) -> SetupError | None:
        """Why the last child never got to run Python; None if it did."""
        step, error = self._trouble.step, self._trouble.error
        return SetupError(_STEPS[step], "", error) if step else None


def launch_command(plan: Plan, entry: Entry, status: int) -> list[str]:
    """The command that runs the program whose words follow it in a sandbox, and ends as that does (``launch.c``).

    :param status: descriptor of a pipe that gets what :func:`launch_trouble` reads. The command must inherit it, the
        descriptors of ``entry`` but those to be closed, and no others that lead out of the sandbox.
    """
    words = [str(BUILDER), "launch", str(status), str(entry.init_pidfd)]
    words += [f"join={int(plan.join)}", f"time={int(plan.join_late)}", f"unshare={int(plan.unshare_late)}"]
    words += [f"caps={plan.capabilities}", f"cwd={entry.cwd}", *(f"attach={fd}" for fd in entry.attach)]
    words += [*(f"core={core}" for core in entry.cores), *(f"rlimit={name}:{most}" for name, most in entry.rlimits)]
    flags = (("keep", not plan.joins(Clone.NEWUSER)), ("nnp", plan.no_new_privs), ("seccomp", plan.seccomp))
    return [*words, *(word for word, wanted in flags if wanted), "--"]


def launch_trouble(told: bytes, program: str, cwd: str) -> SetupError | OSError | None:
    """Why a program was not started, from all that came through the pipe; None if it was.

    Where it is the program or the folder, it is the error that :class:`subprocess.Popen` raises.
    """
    if len(told) < _TROUBLE.size:
        return None
    step, error = _TROUBLE.unpack(told[: _TROUBLE.size])
    if step >= len(_STEPS) or _STEPS[step] == _CWD:
        return OSError(error, os.strerror(error), program if step >= len(_STEPS) else cwd)
    return SetupError(_STEPS[step], "", error)


def pidfd_open(pid: int) -> Fd:
    """A descriptor that is readable once the process has ended (pidfd_open(2)); close-on-exec."""
    fd = _lib.isolate_pidfd_open(pid)
    if fd < 0:
        raise OSError(_ffi.errno, os.strerror(_ffi.errno), f"pidfd_open({pid})")
    return Fd(fd)


def unshare(namespaces: Clone) -> None:
    """Make this process's own namespaces (unshare(2)). Never in pytest's process.

    :raises OSError: if the kernel refuses.
    """
    if _lib.isolate_unshare(int(namespaces)) < 0:
        raise OSError(_ffi.errno, os.strerror(_ffi.errno), "unshare")


def setns(fd: int, namespaces: Clone) -> None:
    """Join namespaces (setns(2)) of a process, by its pidfd, or the one that ``fd`` is of. Never in pytest's process.

    :raises OSError: if the kernel refuses, or the process has gone.
    """
    if _lib.isolate_setns(fd, int(namespaces)) < 0:
        raise OSError(_ffi.errno, os.strerror(_ffi.errno), "setns")


def send_unblocked(pid: int, number: int) -> None:
    """Send a child process signal ``number`` though it may block it: ptrace(2) unblocks it in its main thread first.

    :raises OSError: if the process has gone.
    """
    if _lib.isolate_dump_signal(pid, number) < 0:
        raise OSError(_ffi.errno, os.strerror(_ffi.errno), f"kill({pid})")


def changes(scratch: Fd, layers: bytes) -> list[Change]:
    """What writable layers hold, against the host's tree at the same paths; as far as they can be read.

    :param scratch: the sandbox's scratch directory, which the layers are in. Whiteouts and opaque directories are
        those of overlayfs.rst.
    :param layers: see :attr:`Plan.host_layers`.
    """
    size = _ffi.new("long *")
    records = _lib.isolate_changes(scratch, layers, size)
    try:
        if size[0] < 0:
            raise MemoryError
        text = bytes(_ffi.buffer(records, size[0])) if size[0] else b""
    finally:
        _lib.isolate_free(records)
    found = []
    for record in text.split(b"\0")[:-1]:
        kind = record[:1].decode()
        assert kind in ("A", "M", "D")
        found.append(Change(kind, os.fsdecode(record[1:])))  # type: ignore[arg-type]
    return found


def library(path: str) -> object:
    """Load a shared object (dlopen(3)); it is unloaded with the handle that is returned.

    :raises OSError: if it can't be loaded.
    """
    handle: object = _ffi.dlopen(path, os.RTLD_LAZY)
    return handle


def library_loaded(name: str) -> bool:
    """Whether a shared object of that name is in this process, from whatever path."""
    return bool(_lib.isolate_library_loaded(os.fsencode(name)))


def collapse(start: int, limit: int) -> tuple[int, int, int]:
    """Gather up to ``limit`` blocks of 2 MB of this process's heap, from address ``start`` on, in huge pages.

    :return: how many were gathered, how many it tried, and where to go on: 0 after the last.
    """
    where, tried = _ffi.new("uint64_t *", start), _ffi.new("long *")
    done = _lib.isolate_collapse(where, limit, tried)
    return int(done), int(tried[0]), int(where[0])


def landlock_version() -> int:
    """The kernel's Landlock ABI (landlock_create_ruleset(2)); 0 where there is none."""
    return max(0, int(_lib.isolate_landlock_version()))
