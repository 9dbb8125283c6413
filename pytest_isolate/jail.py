"""A sandbox whose root is one directory and that has nothing else in it, no /proc and no device.

A fork of this process works in there, such as on what an image's author wrote, with capabilities over its own user
namespace only, while this one feeds it.
"""

from __future__ import annotations

import grp  # noqa: F401 - tarfile would import them where there is no file to import from any more
import json
import os
import pwd  # noqa: F401
import resource
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_isolate import native, scratch
from pytest_isolate.builder import Builder
from pytest_isolate.cgroups.names import session_name
from pytest_isolate.errors import SetupError, UnsupportedError
from pytest_isolate.host import ESSENTIAL, Host, identity
from pytest_isolate.images import untar
from pytest_isolate.native import Entry, Fd, Forker
from pytest_isolate.plan import Clone, MountFlag, Op, Plan, Step
from pytest_isolate.planning import ROOT_KEEPS
from pytest_isolate.probe import probe
from pytest_isolate.rootfs import NEW, OLD

if TYPE_CHECKING:
    from typing_extensions import Self

#: Bytes of memory that the unpacking process may add to what it was forked with: headers of a tar are read into it.
_MEMORY = 512 << 20


class Jail:
    """Runs tasks of this process in a fork of it whose root is one directory."""

    def __init__(self) -> None:
        """:raises UnsupportedError: if this host cannot build one."""
        if reason := native.available():
            raise UnsupportedError("image", reason, "Install it on Linux, from a wheel or with a C compiler.")
        self._builder = Builder()
        try:
            self._host = _usable(probe(self._builder.attempt))
        except BaseException:
            self._builder.close()
            raise

    def __enter__(self) -> Self:
        """The jail itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End its builder."""
        self._builder.close()

    @property
    def host(self) -> Host:
        """What this host allows."""
        return self._host

    @property
    def owners(self) -> bool:
        """Whether files can be given to other users: only real root can."""
        return self._host.real_root

    @contextmanager
    def running(self, root: str, task: Callable[[Fd], object], *, keep: Iterable[int] = ()) -> Iterator[_Running]:
        """Fork ``task(input)``, its root being the directory ``root``; it is fed and ended by what is yielded.

        :param task: gets the reading end of a pipe; its result is plain data. :class:`~untar.HostileError` and
            ``OSError`` come out of :meth:`_Running.result`.
        """
        plan = _plan(self._host, root)
        sandbox = self._builder.get(self._builder.add(plan))
        forker = Forker()
        answer = os.memfd_create("isolate-unpacked")
        reader, writer = os.pipe()
        memory = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize() + _MEMORY
        try:
            close = (Fd(writer), Fd(self._builder.fileno()), sandbox.init_pidfd)
            pid, _ = forker.fork(plan, Entry(init_pidfd=sandbox.init_pidfd, attach=(), close=close, cwd="/"))
            if pid == 0:
                _perform(task, Fd(reader), answer, memory)
            os.close(reader)
            reader = -1
            yield _Running(pid, writer, answer, forker)
        finally:
            for fd in (reader, writer, answer, *keep):
                with suppress(OSError):
                    os.close(fd)
            forker.reap()
            self._builder.done(sandbox)

    @contextmanager
    def executed(
        self, plan: Plan, command: Sequence[str], env: Mapping[str, str], output: int
    ) -> Iterator[tuple[int, Fd | None]]:
        """Run a program in a sandbox of ``plan`` to its end: its exit status, and the sandbox's scratch space.

        :param output: file for what it writes to its standard output and standard error.
        """
        with ExitStack() as stack:
            if plan.scratch:
                place = scratch.directory(plan.scratch, f"{session_name()}.build{os.getpid()}")
                plan = replace(plan, scratch=stack.enter_context(place))
            sandbox = self._builder.get(self._builder.add(plan))
            stack.callback(self._builder.done, sandbox)
            forker = Forker()
            stack.callback(forker.reap)
            close = tuple(
                Fd(fd) for fd in (self._builder.fileno(), sandbox.init_pidfd, sandbox.scratch) if fd is not None
            )
            pid, _ = forker.fork(plan, Entry(init_pidfd=sandbox.init_pidfd, attach=(), close=close, cwd="/"))
            if pid == 0:
                _execute(command, env, output)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if trouble := forker.trouble():
                raise trouble
            yield status, sandbox.scratch


class _Running:
    """A task in the jail."""

    def __init__(self, pid: int, writer: int, answer: int, forker: Forker) -> None:
        self._pid, self._writer, self._answer, self._forker = pid, writer, answer, forker

    def feed(self, pieces: Iterable[bytes]) -> None:
        """Write to its input. Its end closes the pipe; then :meth:`result` says why."""
        with suppress(BrokenPipeError):
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(self._writer, rest) :]

    def result(self) -> Any:
        """Close its input, wait for its end, and return what it returned."""
        os.close(self._writer)
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        if trouble := self._forker.trouble():
            raise trouble
        size = os.fstat(self._answer).st_size
        kind, content = json.loads(os.pread(self._answer, size, 0)) if size else ("died", status)
        if kind == "result":
            return content
        if kind == "hostile":
            raise untar.HostileError(content)
        raise SetupError("unpack", f"the layer ({kind}: {content})", 0)


def _perform(task: Callable[[Fd], object], reader: Fd, answer: int, memory: int) -> None:
    """In the fork: all of it, and the end."""
    try:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
            os.umask(0)
            told: tuple[str, object] = ("result", task(reader))
        except untar.HostileError as error:
            told = ("hostile", str(error))
        except BaseException as error:  # noqa: BLE001 - it is told outside; nothing must unwind into this process's frames
            told = ("failed", repr(error))
        os.write(answer, json.dumps(told).encode())
    finally:
        os._exit(0)


def _usable(host: Host) -> Host:
    """:raises UnsupportedError: if ``host`` has not the namespaces that a jail is made of."""
    if host.namespaces & ESSENTIAL != ESSENTIAL:
        lack = host.lacks[0]
        raise UnsupportedError("image", lack.reason, lack.remedy)
    return host


def _execute(command: Sequence[str], env: Mapping[str, str], output: int) -> None:
    """In the fork: become the program."""
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        for there, fd in ((null, 0), (output, 1), (output, 2)):
            os.dup2(there, fd)
        os.umask(0o022)
        os.execvpe(command[0], [*command], {"HOME": "/root", "LANG": "C.UTF-8", **env})  # noqa: S606 - in a sandbox
    except OSError as error:
        os.write(output, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _plan(host: Host, root: str) -> Plan:
    """A sandbox that has nothing but ``root``. As in a test's, the mounts are made outside of root's user namespace."""
    ops = (
        Op(Step.STAGE, a="size=1m,mode=755"),
        Op(Step.MOUNT, MountFlag.BIND, OLD + root, NEW),
        Op(Step.PIVOT, b=NEW),
    )
    if host.real_root:
        return Plan(
            namespaces=ESSENTIAL & ~Clone.NEWUSER,
            uid_map=identity(host.uid_map),
            gid_map=identity(host.gid_map),
            ops=(*ops, Op(Step.UNSHARE, Clone.NEWUSER)),
            join=ESSENTIAL,
            capabilities=ROOT_KEEPS,
        )
    maps = f"0 {host.uid} 1", f"0 {host.gid} 1"
    return Plan(
        namespaces=ESSENTIAL, uid_map=maps[0], gid_map=maps[1], ops=ops, join=ESSENTIAL, capabilities=ROOT_KEEPS
    )
