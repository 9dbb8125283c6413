"""Forks this process into a sandbox (``_native/fork.c``), or starts a program there (``_native/launch.c``)."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from pytest_isolate.linux import native, waiting
from pytest_isolate.linux.atfork import FORK_BY_HELPER
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.flags import Clone
from pytest_isolate.linux.native import Fd, ffi, lib
from pytest_isolate.plan.plan import Plan
from pytest_isolate.spec.errors import SetupError

_CWD = "enter the current folder"
_ALONE = "enter it alone (a library's fork handler has started threads already)"
#: What the child was doing when it gave up, in the order of ``enum enter_step`` in enter.h.
_STEPS = (
    "",
    "join the sandbox's namespaces (setns)",
    "fork",
    "enter its cgroup",
    "make its cgroup, time and mount namespaces (unshare)",
    "join its time namespace (setns)",
    "start a session (setsid)",
    _CWD,
    "set the CPU affinity",
    "set a resource limit",
    "drop capabilities",
    "set no_new_privs",
    "install the seccomp filter",
    "install the Landlock rules",
    "set whether it may be looked into (PR_SET_DUMPABLE)",
    "let it end with its parent (PR_SET_PDEATHSIG)",
    "block or unblock signals",
    "become its parent (PR_SET_CHILD_SUBREAPER)",
    _ALONE,
    "make standard input its controlling terminal (TIOCSCTTY)",
)
#: Where a sandbox can be built, and the user is the same, nothing but a filter keeps one from entering it.
_FILTERED = (
    "A filter of system calls refuses setns(2) or unshare(2). In Docker or Podman start the container with "
    "--security-opt seccomp=unconfined; see `python -m pytest_isolate docs hosts`."
)
#: What to send to a process of :func:`launch_command` instead of signals that it cannot receive (``launch.c``).
HANDED_ON: dict[int, int] = {signal.SIGKILL: signal.SIGRTMAX, signal.SIGSTOP: signal.SIGRTMAX - 1}
_KILLED_SECONDS = 10.0  # for a child to go that was killed; one in an uninterruptible call of the kernel's stays
_TROUBLE = struct.Struct("=ii")
#: Seconds that fork handlers of libraries and of Python have; then this process ends (``stuck_fork.c``).
_FORK_SECONDS = 60.0
_LONGEST = 1e9  # seconds: fits into the nanoseconds of an int64_t


class Entry(NamedTuple):
    """What a process needs to enter one sandbox: descriptors of this process, and where it goes on."""

    init_pidfd: Fd  #: PID 1 of the sandbox
    attach: tuple[Fd, ...]  #: cgroup files to enter by
    close: tuple[Fd, ...]  #: descriptors that the test must not have
    cwd: str
    # Where the host lacks something, and the user chose to go on (pytest_isolate.plan.degraded):
    cores: tuple[int, ...] = ()  #: for sched_setaffinity(2)
    rlimits: tuple[tuple[int, int], ...] = ()  #: for setrlimit(2): number, value
    landlock: tuple[str, ...] | None = None  #: the only trees that may be written; None: no Landlock


class Forked(NamedTuple):
    """What came of a fork. Times are by the monotonic clock."""

    pid: int  #: 0 in the child
    pidfd: Fd  #: of the child; -1 in it. :meth:`Forker.reap` closes it
    at: float  #: when it began
    ended: float | None = None  #: when the child was seen to have ended, if it was
    interrupt: KeyboardInterrupt | None = None  #: came meanwhile; there is a child all the same


class Forker:
    """Forks this process into a sandbox, one after another.

    Holds the page in which a child says what went wrong before Python runs in it.
    """

    def __init__(self, *, output: int = 2) -> None:
        """:param output: descriptor for the last message of a process whose fork does not come back.

        :raises SetupError: if there is no memory for that page.
        """
        self.run, self.watch = ffi.new("struct isolate_run *"), ffi.new("struct isolate_watch *")
        self.run.pidfd = -1
        self.watch.fork_by_helper = ffi.cast("void *", FORK_BY_HELPER)
        self.watch.output = output
        self.mask = ffi.new("char[]", lib.isolate_mask_size())
        self._trouble = self.run.trouble = lib.isolate_shared_trouble()
        self.kept: list[object] = []  #: of the last fork: a child that freed it would write to all of it
        if not self._trouble:
            raise SetupError("map a shared page", "", ffi.errno)

    def prepare(self, plan: Plan, entry: Entry, control: Fd | None = None) -> None:
        """Before :func:`fork_together`. :param control: readable when the child wants to be heard."""
        data, arrays = _for_c(plan, entry)
        self.kept = [data, arrays]
        self.run.entry, self.run.control = data, -1 if control is None else control

    def fork(self, plan: Plan, entry: Entry) -> Forked:
        """Return twice, as :func:`fork_together` does, at once: in this process and in the child.

        :raises SetupError: if there is no child.
        """
        self.prepare(plan, entry)
        number, interrupt = fork_together([self])
        forked = Forked(0, Fd(-1), 0.0) if number >= 0 else self.forked(interrupt)
        assert forked is not None  # it is the first of its row
        return forked

    def forked(self, interrupt: KeyboardInterrupt | None) -> Forked | None:
        """In this process, what came of the last fork; None: it was not this one's turn.

        :raises SetupError: if there is no child. One that fails on its way in is told by :meth:`trouble`, after
            it ended.
        """
        run = self.run
        if run.pidfd < 0:
            if not self._trouble.step:
                return None
            raise _failed(self._trouble.step, self._trouble.error)
        return Forked(run.pid, Fd(run.pidfd), run.started / 1e9, run.ended / 1e9 if run.ended else None, interrupt)

    def seconds(self) -> float:
        """How long the last fork took, without what came before and after."""
        return float(self.watch.forking) / 1e9

    def reap(self) -> None:
        """Close the last child's pidfd; if the child is still there, end it and wait for it.

        By what the C side wrote down, not by what :meth:`fork` returned: a KeyboardInterrupt can come in between, and
        a child that nobody waits for would keep its sandbox from being taken down.
        """
        pidfd, self.run.pidfd = self.run.pidfd, -1
        if pidfd < 0:
            return
        with contextlib.suppress(ChildProcessError):  # reaped already
            if calls.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG) is None:
                calls.pidfd_send_signal(pidfd, signal.SIGKILL)
                waiting.readable(pidfd, seconds=_KILLED_SECONDS)
                calls.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        lib.isolate_release_child()
        calls.close(pidfd)

    def trouble(self) -> SetupError | None:
        """Why the last child never got to run Python; None if it did."""
        step, error = self._trouble.step, self._trouble.error
        return _failed(step, error) if step else None


def fork_together(
    forkers: Sequence[Forker],
    *,
    at_once: int = 1,
    quiet: bool = False,
    others: Sequence[Fd] = (),
    patience: float | None = None,
    timeout: float | None = None,
) -> tuple[int, KeyboardInterrupt | None]:
    """Fork once for each of these, which are prepared; return once in each child with its number, and here with -1.

    As many as may run at a time are forked first. The others follow as these end, where ``quiet`` waits for that; else,
    or if it returns before, they are left for another call.

    Python's and libc's fork hooks have run, and all of a plan's restrictions are in force in its child. Hooks
    that never return end this process after 60 seconds, or ``timeout``, or with Ctrl-C.

    :param at_once: how many may run at a time; one at least.
    :param quiet: where this process has no other thread, return only when the children have ended, or a little after
        most of them have, or one wants to be heard, or a signal has come, or after ``patience`` seconds. Until
        then no Python runs here, which would copy what the children still share.
    :param others: what may be read before that, if there is anything to be done.
    :return: also Ctrl-C, if it came meanwhile; the children are there all the same.
    """
    watch, mask = forkers[0].watch, forkers[0].mask
    runs, listened = ffi.new("struct isolate_run *[]", [forker.run for forker in forkers]), ffi.new("int[]", others)
    forkers[0].kept += (runs, listened)
    watch.at_once, watch.quiet, watch.others, watch.other_count = at_once, quiet, listened, len(others)
    watch.patience = -1 if patience is None else int(min(patience, _LONGEST) * 1e9)
    watch.fork_patience = int(min(_FORK_SECONDS, timeout or _FORK_SECONDS) * 1e9)
    # An exception that a signal handler raises within one of Python's fork hooks (logging has some) is printed
    # and ignored: Ctrl-C would be lost. So it is raised here, before the fork or after it.
    try:
        lib.isolate_block_signals(mask)
        try:
            number = lib.isolate_fork(runs, len(forkers), watch, mask)
        finally:
            lib.isolate_restore_signals(mask)
    except KeyboardInterrupt as error:
        if all(forker.run.pidfd < 0 for forker in forkers):  # it came before the fork
            raise
        return -1, error
    return number, None


def _for_c(plan: Plan, entry: Entry) -> tuple[Any, list[Any]]:
    """``struct isolate_entry``, and the arrays that it points to: cffi frees what nothing refers to."""
    keep: list[Any] = []

    def array(kind: str, values: bytes | Sequence[Any]) -> Any:
        keep.append(ffi.new(kind, values))
        return keep[-1]

    data = ffi.new("struct isolate_entry *")
    data.init_pidfd = entry.init_pidfd
    data.join, data.join_late, data.unshare_late = int(plan.join), int(plan.join_late), int(plan.unshare_late)
    data.attach, data.attach_count = array("int[]", entry.attach), len(entry.attach)
    data.close, data.close_count = array("int[]", entry.close), len(entry.close)
    data.cwd = array("char[]", calls.fsencode(entry.cwd))
    data.capabilities, data.keep_credentials = plan.capabilities, not plan.joins(Clone.NEWUSER)
    data.no_new_privs, data.seccomp = plan.no_new_privs, plan.seccomp
    data.cores, data.core_count = array("int[]", entry.cores), len(entry.cores)
    data.rlimits = array("uint64_t[]", [number for pair in entry.rlimits for number in pair])
    data.rlimit_count = len(entry.rlimits)
    writable = [array("char[]", calls.fsencode(path)) for path in entry.landlock or ()]
    data.landlock_writable = array("char *[]", writable)
    data.landlock_count = -1 if entry.landlock is None else len(writable)
    return data, keep


def launch_command(plan: Plan, entry: Entry, status: int, more: Sequence[str] = ()) -> list[str]:
    """The command that runs the program whose words follow it in a sandbox, and ends as that does (``launch.c``).

    :param status: descriptor of a pipe that gets what :func:`launch_trouble` reads. The command must inherit it, the
        descriptors of ``entry`` but those to be closed, and no others that lead out of the sandbox.
    :param more: ``terminal``, ``group``.
    """
    words = [str(native.BUILDER), "launch", str(status), str(entry.init_pidfd)]
    words += [f"join={int(plan.join)}", f"time={int(plan.join_late)}", f"unshare={int(plan.unshare_late)}"]
    words += [f"caps={plan.capabilities}", f"cwd={entry.cwd}", *(f"attach={fd}" for fd in entry.attach)]
    words += [*(f"core={core}" for core in entry.cores), *(f"rlimit={name}:{most}" for name, most in entry.rlimits)]
    flags = (("keep", not plan.joins(Clone.NEWUSER)), ("nnp", plan.no_new_privs), ("seccomp", plan.seccomp))
    return [*words, *(word for word, wanted in flags if wanted), *more, "--"]


def launch_trouble(told: bytes, program: str, cwd: str) -> SetupError | OSError | None:
    """Why a program was not started, from all that came through the pipe; None if it was.

    Where it is the program or the folder, it is the error that :class:`subprocess.Popen` raises.
    """
    if len(told) < _TROUBLE.size:
        return None
    step, error = _TROUBLE.unpack(told[: _TROUBLE.size])
    if step >= len(_STEPS) or _STEPS[step] == _CWD:
        return OSError(error, calls.strerror(error), program if step >= len(_STEPS) else cwd)
    return _failed(step, error)


def _failed(step: int, error: int) -> SetupError:
    words = _STEPS[step]
    if words == _ALONE and error != errno.EINVAL:
        words = "enter it (unshare)"  # by which is found out whether there are threads
    refused = error in (errno.EPERM, errno.ENOSYS) and words.endswith(("(setns)", "(unshare)"))
    return SetupError(words, "", error, _why_refused() if refused else "")


def _why_refused() -> str:
    """Where a sandbox could be built: the builder keeps the rights that this process had when it was started."""
    if (now := calls.geteuid()) != calls.getuid():
        return (
            f"The effective user of pytest's process is {now}, its real one {calls.getuid()}: a fixture, a module or a "
            f"plugin has given up its rights (os.seteuid). Have the tests do that, each for itself."
        )
    return _FILTERED
