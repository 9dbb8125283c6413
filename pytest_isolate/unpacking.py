"""Brings images into the store: each layer streamed from its source, checked, and unpacked in a jail.

The jail is a sandbox whose root is the layer's own directory and that has nothing else in it, no /proc and no device. A
fork of this process unpacks in there, with capabilities over its own user namespace only, while this one reads the
source, decompresses and compares digests. A layer that is refused leaves nothing behind.
"""

from __future__ import annotations

import grp  # noqa: F401 - tarfile would import them where there is no file to import from any more
import json
import os
import pwd  # noqa: F401
import resource
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_isolate import image_names, native, scratch
from pytest_isolate.builder import Builder
from pytest_isolate.cgroups.names import session_name
from pytest_isolate.errors import ImageError, SetupError, UnsupportedError
from pytest_isolate.host import ESSENTIAL, Host, identity
from pytest_isolate.images import recipe, untar
from pytest_isolate.images.root import Root, root_of
from pytest_isolate.images.source import opened
from pytest_isolate.images.store import Layer, Stack, Store, chain_ids
from pytest_isolate.images.stream import tar_of
from pytest_isolate.images.untar import OPAQUE
from pytest_isolate.native import Entry, Fd, Forker
from pytest_isolate.plan import Clone, MountFlag, Op, Plan, Step
from pytest_isolate.planning import ROOT_KEEPS
from pytest_isolate.probe import probe
from pytest_isolate.rootfs import NEW, OLD

if TYPE_CHECKING:
    from typing_extensions import Self

#: Bytes of memory that the unpacking process may add to what it was forked with: headers of a tar are read into it.
_MEMORY = 512 << 20

_TRUSTED = OPAQUE.replace("user.", "trusted.", 1)

#: Tells somebody who waits what is being done.
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Most:
    """Limits on one layer."""

    size: int = untar.MOST_BYTES  #: bytes in its files
    entries: int = untar.MOST_ENTRIES


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


# ------------------------------------------------------------------------------------------------------- images


def install(path: str, store: Store, *, most: Most | None = None, tell: Tell = lambda _: None) -> Stack:
    """Have the image in ``path`` in the store: unpack those of its layers that are not.

    :param path: a folder or an archive, see :func:`~pytest_isolate.images.source.opened`.
    :raises ImageError: it is no image, or is damaged, or hostile. :raises UnsupportedError: this host can't unpack it.
    """
    with opened(path) as (source, image):
        known = store.image(image.digest)
        if known is not None and os.path.realpath(path) in known.sources:
            return known
        chain = chain_ids(layer.diff_id for layer in image.layers)
        with store.shared():
            missing = [number for number, each in enumerate(chain) if store.layer(each) is None]
            with Jail() if missing else nullcontext() as jail:
                for number in missing:
                    blob = image.layers[number]
                    tell(f"unpacking layer {number + 1} of {len(chain)} ({blob.diff_id[7:19]})")
                    assert jail is not None
                    with source.open(blob.name) as file:
                        tar = tar_of(blob, file)
                        install_layer(jail, store, tar, chain[: number + 1], blob.diff_id, image=path, most=most)
            stack = Stack(digest=image.digest, layers=tuple(chain), env=image.env, sources=(os.path.realpath(path),))
            store.register(stack)
    return stack


def root(path: str, host: Host, *, places: Iterable[str], writable: Sequence[str]) -> Root:
    """The image in the folder ``path`` as a root for tests of this process; unpacked now, if it was not yet.

    :raises ImageError: if it cannot be used.
    """
    name, folder = os.path.basename(path), os.path.dirname(path)
    if problem := image_names.problem(name, folder):
        raise ImageError(name, problem)
    store = Store()
    stack = store.image(recipe.digest(path)) if recipe.exists(path) else install(path, store)
    if stack is None:  # a test must not fetch packages, nor wait for what may take minutes
        raise ImageError(name, f"is not built yet: python -m pytest_isolate images build {name}")
    import_module("pytest_isolate.images.settle")  # for the test's process, which has the image under it
    return root_of(stack, store, name=name, places=places, writable=writable, real_root=host.real_root)


def install_layer(
    jail: Jail, store: Store, tar: Iterable[bytes], chain: list[str], diff_id: str, *, image: str, most: Most | None
) -> None:
    """Unpack one layer from its tar. :param chain: its chain id, after those of the layers below.

    :raises ImageError: it is refused; the error names ``image``.
    """
    *below, own = chain
    with store.adding(own) as tree:
        if tree is None:
            return  # another process was faster
        lowers = [os.open(store.tree(each), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for each in reversed(below)]
        most = most or Most()
        unpacker = untar.Unpacker(lowers=lowers, owners=jail.owners, most_bytes=most.size, most_entries=most.entries)
        try:
            with jail.running(tree, _unpacking(unpacker), keep=lowers) as running:
                running.feed(tar)
                found = running.result()
        except untar.HostileError as error:
            raise ImageError(image, f"its layer {diff_id} is refused: {error}.") from error
        if jail.owners:
            _mark_for_root(tree, found["opaque"])
        del found["opaque"]
        store.publish(
            tree,
            Layer(
                chain=own,
                diff_id=diff_id,
                parent=below[-1] if below else None,
                owners=jail.owners,
                left_out=tuple((str(what), int(number)) for what, number in found.pop("left_out")),
                **found,
            ),
        )


def _mark_for_root(tree: str, opaque: Iterable[str]) -> None:
    """Give opaque directories the attribute that root's overlays look for, which only the host's root may set.

    No link is followed on the way: the tree is what an image made it.
    """
    for path in opaque:
        here = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in path.split("/")[1:]:
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
                os.close(here)
                here = below
            if OPAQUE in os.listxattr(here):
                os.setxattr(here, _TRUSTED, b"y")
        except (FileNotFoundError, NotADirectoryError):  # replaced by what came later in the tar
            pass
        finally:
            os.close(here)


def _unpacking(unpacker: untar.Unpacker) -> Callable[[Fd], object]:
    def unpack(reader: Fd) -> object:
        with open(reader, "rb", 0) as file:
            unpacker.unpack(file)
            while file.read(1 << 18):  # behind the archive's end: it counts for the digest outside
                pass
        return {
            "entries": unpacker.entries,
            "size": unpacker.size,
            "opaque": sorted(unpacker.opaque),
            "left_out": sorted(unpacker.left_out.items()),
            "tree": untar.tree_digest(),
        }

    return unpack


def verify(jail: Jail, store: Store, chain: str) -> bool:
    """Whether a layer's tree is as it was unpacked."""
    layer = store.layer(chain)
    if layer is None:
        return False
    with jail.running(store.tree(chain), lambda _: untar.tree_digest()) as running:
        return bool(running.result() == layer.tree)
