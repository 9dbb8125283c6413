"""Talks to the builder process (``_native/builder.c``): Plans go in, descriptors of ready sandboxes come out."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
from collections.abc import Iterable
from typing import NamedTuple

from pytest_isolate.linux import native, procfs, waiting
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.native import Fd
from pytest_isolate.plan.operations import Step
from pytest_isolate.plan.plan import Plan
from pytest_isolate.sandbox import plan_trace
from pytest_isolate.sandbox.helper_process import HelperProcess
from pytest_isolate.spec.errors import SetupError

_REQUEST = struct.Struct("=IIII")  # kind, plan or sandbox, plan to have ready next, how many
_REPLY = struct.Struct("=IIiIii512s")  # kind, sandbox, pid of init, has scratch; op, errno, object
_DESCRIPTORS = 32  # more than a sandbox has
#: Negative values of ``failure.op`` (plan.h): what was done outside the list of operations.
_OUTSIDE = {
    -1: "set up the cgroup",
    -2: "clone PID 1 into its namespaces",
    -3: "write the id map",
    -4: "make the scratch directory",
    -5: "start PID 1",
}
#: The same, for the programs of ``Plan.uplink``, whose own words are the reason.
_UPLINK = -6
_DOING = {
    Step.STAGE: "prepare the staging area",
    Step.MKDIR: "make the directory",
    Step.SYMLINK: "make the link",
    Step.TOUCH: "make the file",
    Step.COPY: "copy",
    Step.WRITE: "write",
    Step.PIVOT: "pivot_root",
    Step.UNSHARE: "unshare",
    Step.LOOPBACK: "bring up the loopback interface",
    Step.HOSTNAME: "set the host name",
    Step.READONLY: "make read-only",
    Step.RMDIR_PROBE: "replace a directory of the lower tree",
    Step.HOLD: "open",
    Step.CHMOD: "chmod",
    Step.CHOWN: "chown",
    Step.PLAIN: "make a plain file",
    Step.DEVICE: "show the device",
    Step.FREEZE: "make read-only",
    Step.PASS_NUMBERS: "start a process",
}


class Sandbox(NamedTuple):
    """One sandbox that stands ready. The descriptors are the receiver's to close."""

    number: int  #: its cgroup and scratch directories are called ``tNUMBER``
    init_pid: int
    init_pidfd: Fd
    scratch: Fd | None  #: directory that holds the writable layers
    attach: tuple[Fd, ...]

    @property
    def name(self) -> str:
        """Name of its directory in every cgroup hierarchy."""
        return f"t{self.number}"

    @property
    def descriptors(self) -> tuple[Fd, ...]:
        """All of them."""
        return (self.init_pidfd, *([] if self.scratch is None else [self.scratch]), *self.attach)

    def alive(self) -> bool:
        """Whether its PID 1 has not ended, nor is about to, and with it all of it."""
        return not (waiting.readable(self.init_pidfd, seconds=0) or procfs.is_exiting(self.init_pid))

    def close(self) -> None:
        """Close the descriptors; the sandbox itself goes back by :meth:`Builder.done`."""
        for fd in self.descriptors:
            try:  # `suppress` would be three calls more for each of them, after each test
                calls.close(fd)
            except OSError:
                continue


class Builder:
    """The builder process of this session.

    It ends, and removes everything, when this process ends or :meth:`close` is called.
    """

    def __init__(self, first: int = 1, *, below: Fd | None = None) -> None:
        """Start it.

        :param first: number of the first sandbox: beyond those of a builder before it, whose directories may
            still be there.
        :param below: pidfd of a process in whose user namespace it is to live; None: in this one.
        :raises SetupError: if the program can't be started.
        """
        self._plans: list[Plan] = []  # number - 1 is the index
        self._asked = 0  # number of the Plan of which a sandbox was asked for, and not fetched yet
        self.last = first - 1  #: number of the last sandbox that it handed out
        arguments = ["isolate-builder", str(first), f"for={calls.getpid()}", *([] if below is None else ["below"])]
        self._process = HelperProcess("builder process", str(native.BUILDER), arguments, {}, fifth=below)
        self.pid = self._process.pid

    def secrets(self) -> tuple[Fd, ...]:
        """Descriptors that must not reach a test."""
        return self._process.secrets()

    def alive(self) -> bool:
        """Whether the process is still there, and this side in step with it."""
        return self._process.alive()

    def add(self, plan: Plan) -> int:
        """Give the builder a Plan; its number for :meth:`get`."""
        self._plans.append(plan)
        number = len(self._plans)
        memfd = os.memfd_create("isolate-plan")
        try:
            calls.write(memfd, plan.encode())
            self._process.send(_REQUEST.pack(ord("P"), number, 0, 0), [memfd])
        finally:
            calls.close(memfd)
        if plan_trace.WANTED:
            plan_trace.show_plan(number, plan)
        return number

    def ask(self, number: int, *, ahead: int = 0, depth: int = 1) -> None:
        """Ask for a sandbox of Plan ``number`` without waiting; the next :meth:`get` of that Plan fetches it.

        :param ahead: with ``depth``: how many of which Plan to have ready then.
        """
        self._give_back()
        self._process.send(_REQUEST.pack(ord("G"), number, ahead, depth))
        self._asked = number

    def get(self, number: int) -> Sandbox:
        """A sandbox of Plan ``number``: that which was asked for, else one that is ready, else built now.

        :raises SetupError: with the step that failed, on what, and errno.
        """
        if self._asked != number:
            self.ask(number)
        self._asked = 0
        message, fds, whole = self._process.receive(_REPLY.size, _DESCRIPTORS, awaited="for a sandbox")
        if len(message) != _REPLY.size:
            raise self._process.gone()
        kind, sandbox, pid, has_scratch, op, code, target = _REPLY.unpack(message)
        if kind == ord("F"):
            raise self._failure(self._plans[number - 1], op, code, os.fsdecode(target.split(b"\0", 1)[0]))
        self.last = sandbox
        if not whole:
            for fd in fds:
                calls.close(fd)
            self._process.send(_REQUEST.pack(ord("D"), sandbox, 0, 0))
            raise SetupError("take over the sandbox", "", errno.EMFILE)
        if plan_trace.WANTED:
            plan_trace.show_built(number, f"t{sandbox}")
        pidfd = fds.pop(0)
        return Sandbox(
            number=sandbox,
            init_pid=pid,
            init_pidfd=pidfd,
            scratch=fds.pop(0) if has_scratch else None,
            attach=tuple(fds),
        )

    def attempt(self, plan: Plan) -> SetupError | None:
        """Build a sandbox only to see whether it can be built; why not, if it can't.

        :raises SetupError: the builder has died, which says nothing of the host.
        """
        try:
            self.done(self.get(self.add(plan)))
        except SetupError as error:
            if not self.alive():
                raise
            return error
        return None

    def done(self, sandbox: Sandbox) -> None:
        """Take it down: all its processes, cgroups and scratch. Returns at once."""
        sandbox.close()
        self._process.send(_REQUEST.pack(ord("D"), sandbox.number, 0, 0))

    def clean_up_after(self, groups: Iterable[str], trees: Iterable[str]) -> None:
        """What the builder removes if this process is killed: cgroup directories in this order, and scratch trees."""
        items = [b"c" + os.fsencode(path) for path in groups] + [b"s" + os.fsencode(path) for path in trees]
        self._process.send(_REQUEST.pack(ord("C"), 0, 0, 0) + b"".join(item + b"\0" for item in items))

    def close(self) -> None:
        """End the builder and wait until it has removed everything."""
        self._process.close()

    def abandon(self) -> None:
        """In a fork: close what leads to the builder, which goes on."""
        self._process.abandon()

    def _give_back(self) -> None:
        """What was asked for, and is not wanted any more: an answer must not be taken for that to another question."""
        if self._asked:
            with contextlib.suppress(SetupError):
                self.done(self.get(self._asked))

    @staticmethod
    def _failure(plan: Plan, op: int, code: int, target: str) -> SetupError:
        if plan_trace.WANTED:
            plan_trace.show_failure(plan, op, code, target)
        if op == _UPLINK:
            return SetupError("connect it to the outside", "", code, _last_words(target))
        if op < 0:
            return SetupError(_OUTSIDE.get(op, "build"), target, code)
        step = plan.ops[op]
        doing = f"mount {step.kind or 'bind'}" if step.step is Step.MOUNT else _DOING[step.step]
        return SetupError(doing, _as_inside(target), code)


def _as_inside(target: str) -> str:
    """Where the test would have found it: the tree is built under /new."""
    rest = target.removeprefix("/new")
    return rest if rest != target and rest.startswith("/") else target


def _last_words(text: str) -> str:
    """Of what pasta said: it puts the reason last, with the time before it, and adds that there is no syslog."""
    lines = [re.sub(r"^[\d.]+: ", "", line).strip() for line in text.splitlines()]
    told = [line for line in lines if line and not line.startswith("Failed to send ")]
    return f"pasta says: {told[-1]}" if told else "pasta ended without a word."
