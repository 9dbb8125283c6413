"""A layer's tar as a stream: decompressed on the way, both digests seen to be right at the end."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from itertools import chain
from shutil import which
from typing import IO, Any

from pytest_isolate.images.oci.layout_reader import LayerBlob
from pytest_isolate.spec.errors import ImageError, UnsupportedError

_PIECE = 1 << 18


def tar_of(blob: LayerBlob, file: IO[bytes]) -> Iterator[bytes]:
    """The pieces of ``blob``'s tar.

    :param file: the blob.
    :raises ImageError: at the end, if a digest is wrong; at once, if the blob is cut off or cannot be decompressed.
    :raises UnsupportedError: nothing here can decompress it.
    """
    tar = _Digest(f"{blob.name}, unpacked,", blob.diff_id)
    for piece in decompress(blob.name, file, digest=blob.digest, packing=blob.packing):
        tar.update(piece)
        yield piece
    tar.check()


def decompress(name: str, file: IO[bytes], *, digest: str | None, packing: str | None = None) -> Iterator[bytes]:
    """The pieces of any file, decompressed if need be. :param digest: of the file as it is; else as :func:`tar_of`."""
    packed = _Digest(name, digest)
    yield from _decompress_pieces(name, packing, packed.passing(iter(lambda: file.read(_PIECE), b"")))
    packed.check()


class _Digest:
    """Watches what passes, and compares at the end."""

    def __init__(self, what: str, expected: str | None) -> None:
        self._what, self._expected = what, expected
        self._hash = hashlib.new((expected or "sha256:").partition(":")[0])

    def update(self, piece: bytes) -> None:
        self._hash.update(piece)

    def passing(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.update(piece)
            yield piece

    def check(self) -> None:
        found = f"{self._hash.name}:{self._hash.hexdigest()}"
        if self._expected is not None and found != self._expected:
            raise ImageError(self._what, f"is damaged: its digest is {found}, not {self._expected}.")


def _decompress_pieces(name: str, packing: str | None, pieces: Iterator[bytes]) -> Iterator[bytes]:
    first = next(pieces, b"")
    packing = packing or _packing_of(first)
    pieces = chain([first], pieces)
    if packing == "plain":
        yield from pieces
    elif packing == "zstd" and (module := _zstd_module()) is None:
        yield from _by_zstd_program(name, pieces)
    else:
        try:
            yield from _gunzip(pieces) if packing == "gzip" else _unzstd(module, pieces)
        except (zlib.error, EOFError) as error:
            raise ImageError(name, f"cannot be decompressed ({packing}): {error}.") from error


def _packing_of(first: bytes) -> str:
    """By the magic numbers of RFC 1952 and RFC 8878."""
    return "gzip" if first[:2] == b"\x1f\x8b" else "zstd" if first[:4] == b"\x28\xb5\x2f\xfd" else "plain"


def _gunzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Several members in a row are one stream (RFC 1952, 2.2); tools that compress in parallel write such.

    Never more than a piece at a time: a few bytes may stand for gigabytes.
    """
    state = zlib.decompressobj(31)
    for piece in pieces:
        rest = piece
        while rest:
            if state.eof:
                if not rest.strip(b"\0"):  # some tools pad
                    break
                state = zlib.decompressobj(31)
            yield state.decompress(rest, _PIECE)
            rest = state.unused_data if state.eof else state.unconsumed_tail
    while not state.eof and (found := state.decompress(state.unconsumed_tail, _PIECE)):
        yield found
    if not state.eof:
        raise EOFError("it is cut off")


def _unzstd(module: Any, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Several frames in a row are one stream (RFC 8878, 3.1)."""
    state = module.ZstdDecompressor()
    for piece in pieces:
        rest = piece
        while rest or not (state.eof or state.needs_input):
            if state.eof:
                state = module.ZstdDecompressor()
            try:
                found = state.decompress(rest, _PIECE)
            except module.ZstdError as error:
                raise EOFError(str(error)) from error
            yield found
            rest = state.unused_data if state.eof else b""
    if not state.eof:
        raise EOFError("it is cut off")


def _zstd_module() -> Any | None:
    """Python's own from 3.14 on, or the package that brings it to older ones."""
    for name in ("compression.zstd", "backports.zstd"):
        with suppress(ImportError):
            return import_module(name)
    return None


def _by_zstd_program(name: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    program = which("zstd")
    if program is None:
        raise UnsupportedError(
            "image",
            f"{name} is compressed by zstd, which neither this Python nor a program here can read",
            "Install the program (apt-get install zstd), the package backports.zstd, or Python 3.14.",
        )
    with tempfile.TemporaryFile() as copy:  # a file, so that no second thread has to feed a pipe
        for piece in pieces:
            copy.write(piece)
        copy.seek(0)
        with subprocess.Popen(  # noqa: S603 - nothing of it comes from an image
            [program, "-dcq"], stdin=copy, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            output, errors = process.stdout, process.stderr
            assert output is not None
            assert errors is not None
            try:
                yield from iter(lambda: output.read(_PIECE), b"")
            except GeneratorExit:  # nobody wants the rest
                process.kill()
                raise
            complaint = errors.read().decode("utf-8", "replace").strip()
        if process.returncode:
            raise ImageError(name, f"cannot be decompressed (zstd): {complaint}.")
