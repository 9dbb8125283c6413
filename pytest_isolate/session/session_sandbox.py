"""pytest's own process in a sandbox: builds it, forks this process into it, waits, and lists what was changed.

This process, the outer one, goes no further than that; its fork is pytest from here on. The two end together: the
sandbox's PID 1 sees the end of the outer process, and the outer process that of its fork.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_isolate.cgroups import discovery, session_names
from pytest_isolate.linux import native, waiting
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.remove_tree import remove_tree
from pytest_isolate.plan import requirements
from pytest_isolate.plan.session_layers import SESSION
from pytest_isolate.plan.session_plan import session_plan
from pytest_isolate.sandbox import scratch_dir
from pytest_isolate.sandbox.builder import Builder, Sandbox
from pytest_isolate.sandbox.forker import Entry, Forker
from pytest_isolate.sandbox.probe.probe import probe
from pytest_isolate.session import second_try
from pytest_isolate.spec.errors import SetupError, UnsupportedError

if TYPE_CHECKING:
    from pytest_isolate.plan.host import Host
    from pytest_isolate.plan.pasta import Uplink
    from pytest_isolate.plan.plan import Plan
    from pytest_isolate.session.network.host_ports import Door, HostPorts
    from pytest_isolate.spec.spec import Spec

_WORKER = "session"  #: name of its group; those of tests are made below
#: What the outer process hands on. With a session of its own, the fork gets nothing from the terminal by itself.
_HANDED_ON = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
    signal.SIGCONT,
)  # fmt: skip
_AWAITED = {*_HANDED_ON, signal.SIGCHLD, signal.SIGTSTP}
_USAGE_ERROR = 4  #: pytest's exit status
_KILLED_SECONDS = 10.0  # for the sandbox's PID 1 to go


class SessionSandbox:
    """A sandbox that this process forks itself into, once."""

    def __init__(self, spec: Spec, *, cgroup: str | None, places: tuple[str, ...]) -> None:
        """Build it.

        :param cgroup: ``--isolate-cgroup``.
        :param places: files and directories that the run will write to.
        :raises UnsupportedError: the host cannot have it, or not all of it.
        :raises SetupError: it could not be built.
        :raises SpecError: ``cgroup`` can't be used.
        """
        if reason := native.available():
            raise UnsupportedError("isolate", reason, native.remedy())
        self._closing = ExitStack()
        with ExitStack() as undo:
            second_try.if_killed(undo, partial(self._build, spec, cgroup, places))
            self._host_ports: HostPorts | None = None
            self._doors: tuple[Door, ...] = ()
            if spec.host_ports and spec.network != "host":
                self._reach_host_ports(spec, undo)
            self._closing = undo.pop_all()

    def enter(self) -> bool:
        """Fork; whether this is the fork, in the sandbox, in which this object is of no use any more.

        :raises SetupError: there is no fork.
        """
        self._forker = Forker()
        native.align_heap()  # of which each test's fork copies what is not in huge pages
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
        entry = Entry(init_pidfd=self._sandbox.init_pidfd, attach=self._sandbox.attach, close=(), cwd=calls.getcwd())
        try:
            forked = self._forker.fork(self._plan, entry)
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise
        if forked.pid:
            self._pid, self._pidfd = forked.pid, forked.pidfd
            return False
        self._sandbox.close()
        self._builder.abandon()
        if self._host_ports is not None:
            self._open_host_ports(self._host_ports)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return True

    def wait(self) -> int:
        """Wait for the fork's end, and end all that it has left: its exit code, or the negative signal.

        :raises SetupError: the fork did not get as far as Python.
        """
        from pytest_isolate.sandbox import changed_files, kept_changes  # noqa: F401, PLC0415 - there is time now

        while (status := self._look_at_signals()) is None:
            pass
        with suppress(ProcessLookupError):
            calls.pidfd_send_signal(self._sandbox.init_pidfd, signal.SIGKILL)
        waiting.readable(self._sandbox.init_pidfd, seconds=_KILLED_SECONDS)
        self._forker.reap()
        if trouble := self._forker.trouble():
            raise trouble
        return status

    def was_out_of_memory(self) -> bool:
        """Whether the kernel has killed a process of the sandbox at its limit; False too where it does not tell."""
        return bool(self._tree.read(self._sandbox.name).oom_kills)

    def keep(self, told: bytes) -> tuple[list[str], list[str]]:
        """Take out what is to stay of the changes, once the run has ended.

        :param told: :class:`~pytest_isolate.sandbox.kept_changes.Kept` as JSON, as the fork has left it; empty if it
            has not got that far.
        :returns: what else was changed, ``M /etc/hosts``, and what could not be taken out, with the reason.
        """
        if self._sandbox.scratch is None:
            return [], []
        from pytest_isolate.sandbox import changed_files, kept_changes  # noqa: PLC0415 - the start does without them
        from pytest_isolate.sandbox.kept_changes import Kept  # noqa: PLC0415

        kept = Kept(**{key: tuple(value) for key, value in json.loads(told or "{}").items()})
        kept = replace(kept, temporary=(*kept.temporary, SESSION))  # which the Plan has made, not the run
        staying, rest = kept.split(changed_files.changes(self._sandbox.scratch, self._plan.host_layers))
        lost = kept_changes.take(self._sandbox.scratch, self._plan.layers, staying)
        return [f"{change.kind} {change.path}" for change in rest], lost

    def close(self) -> None:
        """Remove all that it has on the host."""
        self._closing.close()

    def _build(self, spec: Spec, cgroup: str | None, places: tuple[str, ...], undo: ExitStack) -> None:
        self._builder = Builder()
        undo.callback(self._builder.close)
        self._tree = discovery.find(
            session=session_names.session_name(),
            worker=_WORKER,
            given=cgroup,
            announce=lambda groups: self._builder.clean_up_after(groups, []),
        )
        undo.callback(self._tree.close)
        self.host = self._look(undo, places)
        self._plan = self._make_plan(spec)
        self._sandbox: Sandbox = self._builder.get(self._builder.add(self._plan))
        undo.callback(self._give_back)

    def _reach_host_ports(self, spec: Spec, undo: ExitStack) -> None:
        from pytest_isolate.session.network.host_ports import HostPorts  # noqa: PLC0415 - only if it is asked for
        from pytest_isolate.session.network.session_listeners import Lookup  # noqa: PLC0415

        self._host_ports = HostPorts(Lookup(calls.getpid(), session_names.session_name()))
        undo.callback(self._host_ports.close)
        self._doors = self._host_ports.doors(spec)

    def _open_host_ports(self, host_ports: HostPorts) -> None:
        """In the fork, which nobody could tell an error."""
        try:
            host_ports.open(self._doors, init=1)
        except SetupError as error:
            calls.write(2, f"ERROR: --isolate-session: {error}\n".encode("utf-8", "replace"))
            calls.exit(_USAGE_ERROR)
        host_ports.abandon()

    def _look(self, undo: ExitStack, places: tuple[str, ...]) -> Host:
        host = probe(self._builder.attempt, important=(calls.getcwd(), *places))
        if host.scratch:
            mine = scratch_dir.make(host.scratch, f"{session_names.session_name()}.{_WORKER}")
            undo.callback(remove_tree, mine, ignore_errors=True)
            host = host._replace(scratch=str(mine))
        self._builder.clean_up_after(self._tree.cleanup, [host.scratch] if host.scratch else [])
        return host

    def _make_plan(self, spec: Spec) -> Plan:
        for key, lack in requirements.unsupported(spec, self.host):
            raise UnsupportedError(key, lack.reason, lack.remedy)
        return session_plan(spec, self.host, self._tree.whole_dirs(spec.limits), self._look_outside(spec))

    def _look_outside(self, spec: Spec) -> Uplink | None:
        if spec.network != "nat":
            return None
        from pytest_isolate.sandbox.probe import nat  # noqa: PLC0415 - only if it is asked for

        return nat.look(self.host, self._builder.attempt)

    def _look_at_signals(self) -> int | None:
        """Wait for one signal and hand it on; the fork's exit code or negative signal, if that has ended."""
        number = signal.sigwaitinfo(_AWAITED).si_signo
        if number == signal.SIGCHLD:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            return os.waitstatus_to_exitcode(status) if pid else None
        with suppress(ProcessLookupError):
            if number == signal.SIGTSTP:  # in a session of its own the fork would not stop at that
                calls.pidfd_send_signal(self._pidfd, signal.SIGSTOP)
                calls.kill(calls.getpid(), signal.SIGSTOP)
            else:
                calls.pidfd_send_signal(self._pidfd, number)
        return None

    def _give_back(self) -> None:
        with suppress(SetupError):  # a builder that has died has nothing to take back
            self._builder.done(self._sandbox)
