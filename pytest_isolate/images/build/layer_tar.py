"""One layer of a recipe as a tar archive, the same bytes each time."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import IO

from pytest_isolate.images.build.recipe import File
from pytest_isolate.images.oci.layer_stream import decompress
from pytest_isolate.linux.overlayfs import is_opaque, is_whiteout
from pytest_isolate.spec.errors import ImageError


def write_files(files: Sequence[File], out: IO[bytes]) -> None:
    """Files, directories and links of a recipe."""
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


def write_archive(path: str, sha256: str, out: IO[bytes]) -> None:
    """Any tar, compressed or not; what its digest is about is the file."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ImageError(path, f"cannot be read: {error.strerror}.") from error
    with closing(file):
        for piece in decompress(path, file, digest=f"sha256:{sha256}"):
            out.write(piece)


def write_changes(upper: str, out: IO[bytes]) -> None:
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
            _write_entry(tar, path, name, status, names_of)


def _write_entry(tar: tarfile.TarFile, path: str, name: str, status: os.stat_result, known: dict[int, str]) -> None:
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
    if info.isdir() and is_opaque(path):
        tar.addfile(tarfile.TarInfo(f"{name}/.wh..wh..opq"))


def _walk(folder: str, name: str) -> Iterator[tuple[str, str]]:
    for each in sorted(os.listdir(folder)):
        path, inner = os.path.join(folder, each), os.path.join(name, each)
        yield path, inner
        if stat.S_ISDIR(os.lstat(path).st_mode):
            yield from _walk(path, inner)
