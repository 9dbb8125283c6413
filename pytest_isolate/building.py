"""Builds an image from its recipe: each layer as a tar, unpacked as one that comes from elsewhere would be.

What is built is known by all that the recipe says, so that a second build of the same recipe finds it and does nothing.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO

from pytest_isolate import image_names
from pytest_isolate.errors import ImageError
from pytest_isolate.images import debian, recipe
from pytest_isolate.images.merged import is_whiteout
from pytest_isolate.images.recipe import File, Step
from pytest_isolate.images.root import root_of
from pytest_isolate.images.source import opened
from pytest_isolate.images.store import Stack, Store, chain_ids
from pytest_isolate.images.stream import unpacked
from pytest_isolate.images.untar import OPAQUE
from pytest_isolate.jail import Jail
from pytest_isolate.planning import plan_for
from pytest_isolate.spec import Spec
from pytest_isolate.unpacking import Most, Tell, install, install_layer

_PIECE = 1 << 18
_OPAQUE = (OPAQUE, OPAQUE.replace("user.", "trusted.", 1))


def identity(path: str) -> str:
    """The digest by which the store knows the image in ``path``. :raises ImageError: if there is none."""
    if recipe.exists(path):
        return recipe.digest(path)
    with opened(path) as (_, image):
        return image.digest


def bring_in(path: str, store: Store, *, most: Most, tell: Tell) -> Stack:
    """Have the image in the folder ``path`` in the store, built or unpacked.

    :raises ImageError: it can't be. :raises UnsupportedError: this host can't do it.
    """
    if not recipe.exists(path):
        return install(path, store, most=most, tell=tell)
    if (known := store.image(recipe.digest(path))) is not None:
        return known
    made = recipe.read(path)
    base = Stack(digest="", layers=(), env=(), sources=())
    if made.base is not None:
        folder = os.path.dirname(path)
        if problem := image_names.problem(made.base, folder):
            raise ImageError(path, f"base: {problem}")
        base = bring_in(os.path.join(folder, made.base), store, most=most, tell=tell)
    with Jail() as jail, store.shared():
        build = _Build(os.path.basename(path), jail, store, most, tell, list(base.layers), _diff_ids(store, base))
        for number, step in enumerate(made.steps, 1):
            tell(f"layer {number} of {len(made.steps)}: {_described(step)}")
            build.layer(step)
        env = {**dict(base.env), **dict(made.env)}
        stack = Stack(
            digest=recipe.digest(path),
            layers=tuple(build.chain),
            env=tuple(env.items()),
            sources=(os.path.realpath(path),),
        )
        store.register(stack)
    return stack


def _diff_ids(store: Store, stack: Stack) -> list[str]:
    return [layer.diff_id for chain in stack.layers if (layer := store.layer(chain))]


def _described(step: Step) -> str:
    if step.packages:
        return f"packages {' '.join(step.packages)}"
    if step.run:
        return f"run {step.run[-1].strip().splitlines()[0]}"
    return f"unpack {os.path.basename(step.tar)}" if step.tar else f"{len(step.files)} entries"


@dataclass(slots=True)
class _Build:
    """An image that is being built."""

    name: str
    jail: Jail
    store: Store
    most: Most
    tell: Tell
    chain: list[str]  #: of the layers so far
    diff_ids: list[str] = field(default_factory=list)

    def layer(self, step: Step) -> None:
        """Make one more."""
        with tempfile.TemporaryFile() as tar:
            if step.files:
                _files(step.files, tar)
            elif step.packages:
                with tempfile.TemporaryDirectory() as folder:
                    chosen = debian.as_tar(step.packages, folder, tar)
                self.tell(f"fetched {len(chosen)} packages")
            elif step.tar:
                _archive(step.tar, step.sha256 or "", tar)
            else:
                self._run(step.run, tar)
            tar.seek(0)
            pieces = hashlib.sha256()
            for piece in iter(lambda: tar.read(_PIECE), b""):
                pieces.update(piece)
            self.diff_ids.append(f"sha256:{pieces.hexdigest()}")
            tar.seek(0)
            self.chain = [*self.chain, chain_ids(self.diff_ids)[-1]]
            content = iter(lambda: tar.read(_PIECE), b"")
            last = self.diff_ids[-1]
            install_layer(self.jail, self.store, content, self.chain, last, image=self.name, most=self.most)

    def _run(self, command: Sequence[str], tar: IO[bytes]) -> None:
        """Run a command as root of a sandbox on the image so far; what it has changed goes to ``tar``."""
        if not self.chain:
            raise ImageError(self.name, f"nothing is in the image yet that could run {command[0]}.")
        stack = Stack(digest="", layers=tuple(self.chain), env=(), sources=())
        host = self.jail.host
        root = root_of(stack, self.store, name=self.name, real_root=host.real_root, bare=True)
        plan = plan_for(Spec.of(user="root"), host, (), root)
        with tempfile.TemporaryFile() as output:
            with self.jail.executed(plan, command, dict(root.env), output.fileno()) as (status, scratch):
                if status == 0:
                    _changes(f"/proc/self/fd/{scratch}/u0", tar)
            if status:
                output.seek(0)
                said = output.read().decode("utf-8", "replace").strip()
                raise ImageError(self.name, f"the command {command[-1]!r} ended with status {status}:\n{said}")


# ----------------------------------------------------------------------------------------------------------- tars


def _files(files: Sequence[File], out: IO[bytes]) -> None:
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for each in files:
            info = tarfile.TarInfo(each.path.lstrip("/"))
            info.mode = each.mode
            if each.target is not None:
                info.type, info.linkname = tarfile.SYMTYPE, each.target
            elif each.text is None:
                info.type = tarfile.DIRTYPE
            info.size = len(each.text or b"")
            tar.addfile(info, io.BytesIO(each.text or b""))


def _archive(path: str, sha256: str, out: IO[bytes]) -> None:
    """Any tar, compressed or not; what its digest is about is the file."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ImageError(path, f"cannot be read: {error.strerror}.") from error
    with closing(file):
        for piece in unpacked(path, file, digest=f"sha256:{sha256}"):
            out.write(piece)


def _changes(upper: str, out: IO[bytes]) -> None:
    """A writable layer of overlayfs as a layer of an image."""
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        names_of: dict[int, str] = {}
        for path, name in _walk(upper, ""):
            status = os.lstat(path)
            if is_whiteout(status):
                folder, last = os.path.split(name)
                tar.addfile(tarfile.TarInfo(os.path.join(folder, f".wh.{last}")))
                continue
            if stat.S_ISSOCK(status.st_mode):
                continue
            _entry(tar, path, name, status, names_of)


def _entry(tar: tarfile.TarFile, path: str, name: str, status: os.stat_result, known: dict[int, str]) -> None:
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = stat.S_IMODE(status.st_mode), status.st_mtime
    if os.geteuid() == 0:  # else all is the user's, who was root inside
        info.uid, info.gid = status.st_uid, status.st_gid
    if stat.S_ISLNK(status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISFIFO(status.st_mode):
        info.type = tarfile.FIFOTYPE
    elif status.st_nlink > 1 and status.st_ino in known:
        info.type, info.linkname = tarfile.LNKTYPE, known[status.st_ino]
    else:
        known[status.st_ino] = name
        info.size = status.st_size
        with open(path, "rb") as file:
            tar.addfile(info, file)
        return
    tar.addfile(info)
    if info.isdir() and _is_opaque(path):
        tar.addfile(tarfile.TarInfo(f"{name}/.wh..wh..opq"))


def _walk(folder: str, name: str) -> Iterator[tuple[str, str]]:
    for each in sorted(os.listdir(folder)):
        path, inner = os.path.join(folder, each), os.path.join(name, each)
        yield path, inner
        if stat.S_ISDIR(os.lstat(path).st_mode):
            yield from _walk(path, inner)


def _is_opaque(path: str) -> bool:
    return any(attribute in os.listxattr(path) for attribute in _OPAQUE)
