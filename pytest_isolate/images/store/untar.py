"""Unpacks a layer's tar into the current root: runs in a jail whose ``/`` is the layer's own directory.

So no name, link or sequence of entries can lead out of it, and what is checked here is what would not be harmless
inside either. An entry that no faithful tool writes makes the whole layer invalid (:class:`HostileError`); what a test
has no use for is left out and counted.

Whiteouts become overlayfs's (overlayfs.rst, "whiteouts and opaque directories"): a character device 0:0 in place of
what is gone, ``user.overlay.opaque`` on a directory whose lower contents are. What root's mounts want besides is not
for the jail to set (docs/decisions/image-store.md). The OCI image specification, layer.md, says what a layer may hold.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tarfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from pytest_isolate.linux.openat import open_directory
from pytest_isolate.linux.overlayfs import make_opaque, make_whiteout

#: Most bytes and entries of a layer, unless a command says otherwise.
MOST_BYTES = 20 << 30
MOST_ENTRIES = 1_000_000
_WHITEOUT, _OPAQUE_WHITEOUT = ".wh.", ".wh..wh..opq"
_XATTRS = ("SCHILY.xattr.", "LIBARCHIVE.xattr.")
_PIECE = 1 << 18
_DEEPEST = 255  #: directories in one another, far below what Python's recursion can do


class HostileError(Exception):
    """The layer has an entry that no layer should have; the message says which and what."""


@dataclass(slots=True)
class Unpacker:
    """Unpacks one layer.

    :param lowers: open directories of the layers below, the topmost first, for what the tar leaves to them: attributes
        of directories that it goes through without naming them. Looked at only, name by name, links never followed.
    :param owners: give files the owners that the tar names; else all belong to this process's user.
    """

    lowers: Sequence[int] = ()
    owners: bool = True
    most_bytes: int = MOST_BYTES
    most_entries: int = MOST_ENTRIES
    entries: int = 0
    size: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    opaque: set[str] = field(
        default_factory=set
    )  #: directories whose lower contents are gone, as far as they still exist
    _times: dict[str, int] = field(default_factory=dict)  #: of directories, set once nothing is put into them any more
    _made: set[str] = field(default_factory=set)  #: what this layer holds

    def unpack(self, file: IO[bytes]) -> None:
        """Unpack the tar in ``file``, which may be a pipe.

        :raises HostileError: at the first entry that makes the layer invalid.
        """
        try:
            # Errors of headers are errors, not the end of the archive.
            with tarfile.open(fileobj=file, mode="r|", errorlevel=1, bufsize=_PIECE) as tar:
                for member in tar:
                    self._count(member)
                    self._check_and_unpack(tar, member)
        except MemoryError as error:
            raise HostileError(f"a header after {self.entries} entries is too large") from error
        except (tarfile.TarError, ValueError, ArithmeticError, RecursionError) as error:  # all of them by headers alone
            if self.entries or "empty" not in str(error):
                raise HostileError(f"the tar is damaged after {self.entries} entries: {error}") from error
        for path, time in sorted(self._times.items(), reverse=True):
            with suppress(FileNotFoundError, NotADirectoryError):  # replaced later
                os.utime(path, ns=(time, time), follow_symlinks=False)

    def _count(self, member: tarfile.TarInfo) -> None:
        self.entries += 1
        if self.entries > self.most_entries:
            raise HostileError(f"it has more than {self.most_entries} entries")
        if member.size < 0:
            raise HostileError(f"{member.name!r} has a negative size")

    def _check_and_unpack(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = _inside(member.name)
        try:
            self._unpack_entry(tar, member, path)
        except (OSError, ValueError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
                raise
            raise HostileError(f"{member.name!r} cannot be unpacked: {error}") from error

    def _unpack_entry(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        if path == "/":
            if member.isdir():
                self._finish(member, path)
            return
        folder, name = os.path.split(path)
        if name == _OPAQUE_WHITEOUT:
            self._parents(folder)
            self._hide_below(folder)
        elif name.startswith(_WHITEOUT):
            self._whiteout(folder, name.removeprefix(_WHITEOUT), member.name)
        elif member.isdir() or member.isreg() or member.issym() or member.islnk() or member.isfifo():
            self._parents(folder)
            self._make(tar, member, path)
        else:
            self.left_out["devices" if member.isdev() else "entries of an unknown type"] += 1

    def _make(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        if member.islnk():
            target = _inside(member.linkname)
            if not _is(target, stat.S_ISREG, stat.S_ISLNK):
                raise HostileError(f"{member.name!r} is a hard link to {member.linkname!r}, no file of this layer")
            if target == path:
                return
        hidden = self._clear(path, directory=member.isdir())
        if member.isdir():
            if not os.path.isdir(path):
                os.mkdir(path, 0o700)
            if hidden:  # what it replaces is a whiteout: it goes on hiding what lies below
                self._hide_below(path)
        elif member.isreg():
            self._file(tar, member, path)
        elif member.issym():
            os.symlink(member.linkname, path)
        elif member.isfifo():
            os.mkfifo(path, 0o600)
        else:
            os.link(_inside(member.linkname), path, follow_symlinks=False)
            self._made.add(path)
            return  # its attributes are those of the file that it is a name of
        self._made.add(path)
        self._finish(member, path)

    def _file(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        content = tar.extractfile(member)
        assert content is not None
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb", 0) as out:
            while piece := content.read(_PIECE):
                self.size += len(piece)
                if self.size > self.most_bytes:
                    raise HostileError(f"its files have more than {self.most_bytes} bytes")
                out.write(piece)

    def _finish(self, member: tarfile.TarInfo, path: str) -> None:
        """Owner first: chown(2) clears set-user-ID bits."""
        if self.owners:
            os.chown(path, member.uid, member.gid, follow_symlinks=False)
        if not member.issym():
            os.chmod(path, member.mode & 0o7777)
            self._attributes(member, path)
        time = int(member.mtime * 1_000_000_000)
        if member.isdir():
            self._times[path] = time
        else:
            os.utime(path, ns=(time, time), follow_symlinks=False)

    def _attributes(self, member: tarfile.TarInfo, path: str) -> None:
        """Extended attributes: the user's own, but none that overlayfs would take for its own."""
        for key, value in member.pax_headers.items():
            name = next((key.removeprefix(each) for each in _XATTRS if key.startswith(each)), None)
            if name is None:
                continue
            if not name.startswith("user.") or ".overlay." in name:
                self.left_out[f"attributes {name}"] += 1
            elif not member.isfifo():
                os.setxattr(path, name, value.encode("utf-8", "surrogateescape"))

    def _whiteout(self, folder: str, name: str, shown: str) -> None:
        """Hide ``name`` of the layers below; what this layer has of that name itself stays, whichever comes first."""
        if name in ("", ".", "..") or name.startswith(_WHITEOUT):
            raise HostileError(f"{shown!r} is no name of a whiteout")
        if os.path.lexists(folder) and not os.path.isdir(folder):
            return  # no directory any more, which hides all that lies below by itself (umoci tells it nevertheless)
        self._parents(folder)
        path = os.path.join(folder, name)
        if path in self._made:
            if _is(path, stat.S_ISDIR):
                self._hide_below(path)
        elif _is(path, stat.S_ISDIR):  # gone through, but not named: only what is in it is of this layer
            self._hide_below(path)
        elif not os.path.lexists(path):
            make_whiteout(path)

    def _hide_below(self, path: str) -> None:
        make_opaque(path)
        self.opaque.add(path)

    def _clear(self, path: str, *, directory: bool) -> bool:
        """Make room for a later entry of the same name. Whether a whiteout was there."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return False
        if stat.S_ISDIR(status.st_mode):
            if not directory:
                shutil.rmtree(path)
                self._made = {each for each in self._made if not each.startswith(f"{path}/")}
            return False
        os.unlink(path)
        return stat.S_ISCHR(status.st_mode)

    def _parents(self, folder: str) -> None:
        """Make the directories that the tar goes through without having named them, as the layers below have them."""
        if os.path.isdir(folder):
            return
        self._parents(os.path.dirname(folder))
        hidden = _is(folder, stat.S_ISCHR)
        if hidden:
            os.unlink(folder)
        os.mkdir(folder, 0o755)
        if hidden:
            self._hide_below(folder)
        if (known := self._below(folder)) is not None:
            if self.owners:
                os.chown(folder, known.st_uid, known.st_gid)
            os.chmod(folder, stat.S_IMODE(known.st_mode))
            self._times[folder] = known.st_mtime_ns

    def _below(self, folder: str) -> os.stat_result | None:
        """The directory ``folder`` of the topmost layer below that has it."""
        for lower in self.lowers:
            try:
                found = open_directory(lower, folder.split("/")[1:], os.O_PATH)
            except FileNotFoundError:
                continue
            except NotADirectoryError:  # another kind of entry, there or on the way, hides what lies below
                return None
            try:
                return os.fstat(found)
            finally:
                os.close(found)
        return None


def _inside(name: str) -> str:
    """An entry's name as a path from the layer's root."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise HostileError(f"{name!r} leads out of the layer")
    if len(parts) > _DEEPEST:
        raise HostileError(f"{name[:80]!r}... is nested {len(parts)} deep; the most is {_DEEPEST}")
    return "/" + "/".join(parts)


def _is(path: str, *kinds: Any) -> bool:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return any(kind(mode) for kind in kinds)
