"""A sandbox whose root is one directory and that has nothing else in it, no /proc and no device.

A fork of this process works inside, for example on what an image's author wrote, with capabilities over its own user
namespace only, while this process feeds it.
"""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from pytest_isolate.cgroups.session_names import session_name
from pytest_isolate.linux import native, procfs, waiting
from pytest_isolate.linux.capabilities import ROOT_KEEPS
from pytest_isolate.linux.flags import Clone
from pytest_isolate.linux.native import Fd
from pytest_isolate.plan import operations as do
from pytest_isolate.plan.host import ESSENTIAL, Host
from pytest_isolate.plan.operations import OLD
from pytest_isolate.plan.plan import Plan
from pytest_isolate.plan.rootfs import NEW
from pytest_isolate.sandbox import scratch_dir
from pytest_isolate.sandbox.builder import Builder
from pytest_isolate.sandbox.forker import Entry, Forker
from pytest_isolate.sandbox.probe.probe import probe
from pytest_isolate.spec.errors import SetupError, UnsupportedError

#: Bytes of memory that the unpacking process may add to what it was forked with: headers of a tar are read into it.
_MEMORY = 512 << 20
#: Seconds until a task takes the next piece of its input, or has ended after the last: it may have to write a large
#: tree to a slow disk. Then it is killed.
TASK_SECONDS = 600.0


class Jail:
    """Runs tasks of this process in a fork of it whose root is one directory."""

    def __init__(self, builder: Builder, host: Host) -> None:
        """:raises UnsupportedError: if ``host`` has not the namespaces that a jail is made of."""
        if host.namespaces & ESSENTIAL != ESSENTIAL:
            lack = host.lacks[0]
            raise UnsupportedError("image", lack.reason, lack.remedy)
        self._builder = builder
        self._host = host

    @property
    def host(self) -> Host:
        """What this host allows."""
        return self._host

    @property
    def owners(self) -> bool:
        """Whether files can be given to other users: only real root can."""
        return self._host.real_root

    @contextmanager
    def run(
        self, root: str, task: Callable[[Fd], object], *, refusal: type[Exception], keep: Iterable[int] = ()
    ) -> Iterator[JailedTask]:
        """Fork ``task(input)``, with the directory ``root`` as its root; the :class:`JailedTask` feeds and ends it.

        :param task: gets the reading end of a pipe; its result is plain data.
        :param refusal: what ``task`` raises if its input is at fault; it comes out of :meth:`JailedTask.result`, with
            the same text. Anything else is a :class:`SetupError` there.
        """
        plan = _plan(self._host, root)
        sandbox = self._builder.get(self._builder.add(plan))
        forker = Forker()
        answer = os.memfd_create("isolate-unpacked")
        reader, writer = os.pipe()
        memory = procfs.own_memory("size") + _MEMORY
        try:
            close = (Fd(writer), *self._builder.secrets(), sandbox.init_pidfd)
            forked = forker.fork(plan, Entry(init_pidfd=sandbox.init_pidfd, attach=(), close=close, cwd="/"))
            if forked.pid == 0:
                _perform(task, refusal, Fd(reader), answer, memory)
            os.close(reader)
            reader = -1
            yield JailedTask(forked.pid, forked.pidfd, writer, answer, forker, refusal)
        finally:
            for fd in (reader, writer, answer, *keep):
                with suppress(OSError):
                    os.close(fd)
            forker.reap()
            self._builder.done(sandbox)

    @contextmanager
    def execute(
        self, plan: Plan, command: Sequence[str], env: Mapping[str, str], output: int
    ) -> Iterator[tuple[int, Fd | None]]:
        """Run a program in a sandbox of ``plan`` to its end: its exit status, and the sandbox's scratch space.

        :param output: file for what it writes to its standard output and standard error.
        """
        with ExitStack() as stack:
            if plan.scratch:
                place = scratch_dir.directory(plan.scratch, f"{session_name()}.build{os.getpid()}")
                plan = plan._replace(scratch=stack.enter_context(place))
            sandbox = self._builder.get(self._builder.add(plan))
            stack.callback(self._builder.done, sandbox)
            forker = Forker()
            stack.callback(forker.reap)
            scratch = () if sandbox.scratch is None else (sandbox.scratch,)
            close = (*self._builder.secrets(), sandbox.init_pidfd, *scratch)
            pid = forker.fork(plan, Entry(init_pidfd=sandbox.init_pidfd, attach=(), close=close, cwd="/")).pid
            if pid == 0:
                _execute(command, env, output)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if trouble := forker.trouble():
                raise trouble
            yield status, sandbox.scratch


@contextmanager
def own_jail() -> Iterator[Jail]:
    """A jail with a builder of its own, for commands: a keeper has a builder, and has looked at the host.

    :raises UnsupportedError: if this host cannot build one.
    """
    if reason := native.available():
        raise UnsupportedError("image", reason, native.remedy())
    builder = Builder()
    try:
        yield Jail(builder, probe(builder.attempt))
    finally:
        builder.close()


class JailedTask:
    """A task in the jail."""

    def __init__(  # noqa: PLR0917 - the jail alone makes one
        self, pid: int, pidfd: Fd, writer: int, answer: int, forker: Forker, refusal: type[Exception]
    ) -> None:
        self._pid, self._pidfd, self._writer, self._answer, self._forker = pid, pidfd, writer, answer, forker
        self._refusal = refusal
        os.set_blocking(writer, False)

    def feed(self, pieces: Iterable[bytes]) -> None:
        """Write to its input. Its end closes the pipe; then :meth:`result` says why.

        :raises SetupError: it reads no more.
        """
        with suppress(BrokenPipeError):
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    try:
                        rest = rest[os.write(self._writer, rest) :]
                    except BlockingIOError:
                        if not waiting.writable(self._writer, seconds=TASK_SECONDS):
                            raise _too_slow() from None

    def result(self) -> Any:
        """Close its input, wait for its end, and return what it returned."""
        os.close(self._writer)
        if not waiting.readable(self._pidfd, seconds=TASK_SECONDS):
            raise _too_slow()
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        if trouble := self._forker.trouble():
            raise trouble
        size = os.fstat(self._answer).st_size
        kind, content = json.loads(os.pread(self._answer, size, 0)) if size else ("died", status)
        if kind == "result":
            return content
        if kind == "refused":
            raise self._refusal(content)
        raise SetupError("unpack", f"the layer ({kind}: {content})", 0)


def _too_slow() -> SetupError:
    return SetupError("unpack", "the layer", errno.ETIMEDOUT, f"It was waited for {TASK_SECONDS:g} s.")


def _perform(task: Callable[[Fd], object], refusal: type[Exception], reader: Fd, answer: int, memory: int) -> None:
    """In the fork: perform the task, write its result, and end."""
    try:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
            os.umask(0)
            message: tuple[str, object] = ("result", task(reader))
        except refusal as error:
            message = ("refused", str(error))
        except BaseException as error:  # noqa: BLE001 - the parent raises it; nothing must unwind into this process's frames
            message = ("failed", repr(error))
        os.write(answer, json.dumps(message).encode())
    finally:
        os._exit(0)


def _execute(command: Sequence[str], env: Mapping[str, str], output: int) -> None:
    """In the fork: become the program."""
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        for source, fd in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, fd)
        os.umask(0o022)
        os.execvpe(command[0], [*command], {"HOME": "/root", "LANG": "C.UTF-8", **env})  # noqa: S606 - in a sandbox
    except OSError as error:
        os.write(output, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _plan(host: Host, root: str) -> Plan:
    """A sandbox that has nothing but ``root``. As in a test's, the mounts are made outside of root's user namespace."""
    ops = (do.stage("1m"), do.bind(OLD + root, NEW), do.pivot(NEW))
    uid_map, gid_map = host.id_maps(root_inside=True)
    plan = Plan(
        namespaces=ESSENTIAL, uid_map=uid_map, gid_map=gid_map, ops=ops, join=ESSENTIAL, capabilities=ROOT_KEEPS
    )
    if not host.real_root:
        return plan
    return plan._replace(namespaces=ESSENTIAL & ~Clone.NEWUSER, ops=(*ops, do.unshare(Clone.NEWUSER)))
