"""Fuzzes images from elsewhere: their descriptions, archives, layers, and the shared objects in them."""

from __future__ import annotations

import copy
import gzip
import hashlib
import io
import json
import os
import struct
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pytest_isolate.images.oci import layer_stream, layout_reader
from pytest_isolate.images.oci.layout_reader import LayerBlob
from pytest_isolate.images.root import child_setup
from pytest_isolate.images.store import tree_digest, untar
from pytest_isolate.linux import native
from pytest_isolate.linux.flags import Clone
from pytest_isolate.spec.errors import ImageError, UnsupportedError
from tests.fuzz.parser import Parser, Taker, edited
from tests.support.image_layers import docker_save, entry, layout, link, tar

_BLOCK, _SUM_AT, _MAGIC_AT = 512, 148, 257
_LAYER_BYTES = 1 << 20


def _place() -> str:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()


# ---- descriptions ----


def _layout_documents() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Index, manifest and configuration as in a real layout."""
    with tempfile.TemporaryDirectory() as folder:
        path = layout(Path(folder), tar(entry("a", "1")), tar(entry("b", "2")), env=["PATH=/bin", "A=b=c"])
        index = json.loads((path / "index.json").read_text())
        manifest = json.loads((path / "blobs" / index["manifests"][0]["digest"].replace(":", "/")).read_text())
        configuration = json.loads((path / "blobs" / manifest["config"]["digest"].replace(":", "/")).read_text())
    return index, manifest, configuration


_INDEX, _MANIFEST, _CONFIGURATION = _layout_documents()
_DOCKER = [{"Config": "config.json", "Layers": ["0/layer.tar", "1/layer.tar"], "RepoTags": ["a:b"]}]


def _try_description(data: bytes) -> None:
    """A description is an image, or an ImageError that says why not; digests are right, so that all of it is read."""
    taker = Taker(data)
    index, manifest, configuration = copy.deepcopy((_INDEX, _MANIFEST, _CONFIGURATION))
    kind = taker.below(5)
    if kind == 0:
        configuration = edited(configuration, taker)
    with tempfile.TemporaryDirectory(dir=_place()) as name:
        folder = Path(name)
        digest = _put(folder, configuration)
        if kind < 2 or not isinstance(manifest, dict):
            manifest["config"]["digest"] = digest
        if kind == 1:
            manifest = edited(manifest, taker)
        index["manifests"][0]["digest"] = _put(folder, manifest)
        if kind == 2:
            index = edited(index, taker)
        if kind == 3:
            (folder / "config.json").write_text(json.dumps(configuration))
            (folder / "manifest.json").write_text(json.dumps(edited(_DOCKER, taker)))
        else:
            (folder / "index.json").write_bytes(taker.rest() if kind == 4 else json.dumps(index).encode())
        _read(name)


def _put(folder: Path, document: object) -> str:
    text = json.dumps(document).encode()
    digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
    path = folder / "blobs" / digest.replace(":", "/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    return digest


def _read(path: str) -> None:
    try:
        with layout_reader.open_image(path) as (source, image):
            for layer in image.layers:
                with suppress(ImageError):
                    source.open(layer.name).close()
            for name, value in image.env:
                os.fsencode(f"{name}={value}")
                assert "\0" not in name + value
                assert "=" not in name
    except ImageError as error:
        str(error)


def _description_seeds() -> Iterator[bytes]:
    for kind in range(4):
        yield from (bytes([kind, 0, part, 4, new, 7, 9]) for part in range(0, 40, 2) for new in range(7))
    yield b"\4{}"
    yield b"\4" + b"[" * 5000
    yield b'\4{"manifests": ' + b"[" * 5000


# ---- archives ----


def _mend(data: bytes) -> bytes:
    """With the checksums of headers right, without which a mutation of a header is found at once."""
    mended = bytearray(data)
    for at in range(0, len(mended) - _BLOCK + 1, _BLOCK):
        if mended[at + _MAGIC_AT : at + _MAGIC_AT + 5] == b"ustar":
            block = mended[at : at + _BLOCK]
            block[_SUM_AT : _SUM_AT + 8] = b" " * 8
            mended[at + _SUM_AT : at + _SUM_AT + 8] = b"%06o\0 " % sum(block)
    return bytes(mended)


def _try_archive(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=_place(), suffix=".tar") as file:
        file.write(_mend(data))
        file.flush()
        _read(file.name)


def _archive_seeds() -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        yield docker_save(Path(folder, "saved.tar"), tar(entry("a", "1"))).read_bytes()
        layout(Path(folder, "layout"), tar(entry("a", "1")))
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(Path(folder, "layout"), arcname=".")
        yield buffer.getvalue()
    yield from _layer_seeds()


# ---- layers ----


def _layer_seeds() -> Iterator[bytes]:
    yield tar(entry("d"), entry("d/a", "text"), link("d/l", "a"), link("d/h", "d/a", hard=True))
    yield tar(entry("d/.wh.x", ""), entry("d/.wh..wh..opq", ""), entry(".wh.d", ""), entry("d", "file now"))
    yield tar(entry("fifo", "", type=tarfile.FIFOTYPE), entry("dev", "", type=tarfile.CHRTYPE, devmajor=1))
    yield tar(entry("a" * 300 + "/" + "b" * 120, "long", pax_headers={"SCHILY.xattr.user.a": "b", "mtime": "1.5"}))
    yield tar(entry("x", "1", uid=1 << 40, mtime=-1.5, size=3))
    sparse = "GNU.sparse."
    one = {f"{sparse}major": "1", f"{sparse}minor": "0", f"{sparse}realsize": "9", f"{sparse}name": "s"}
    two = {f"{sparse}map": "0,1,3,1", f"{sparse}size": "9"}
    for headers in (one, two, {f"{sparse}size": "9", f"{sparse}offset": "1"}):
        yield tar(entry("s", "1\n0\n3\nabc", pax_headers=headers))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, content in (entry("n" * 150, "x"), link("l", "t" * 150)):
            archive.addfile(info, io.BytesIO(content))
    yield buffer.getvalue()
    head = tarfile.TarInfo("././@LongLink")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 5
    yield (head.tobuf(tarfile.GNU_FORMAT) + b"long".ljust(_BLOCK, b"\0")) * 1200  # a header for a header, and so on
    for size in (-512, -1 << 40, 1 << 62):
        info = tarfile.TarInfo("x")
        info.size = size
        yield info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024


@contextmanager
def _may_change_root() -> Iterator[None]:
    if os.geteuid():
        uid = os.getuid()
        native.unshare(Clone.NEWUSER)
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    os.umask(0)
    yield


def _try_layer(data: bytes) -> None:
    """A layer is unpacked to ``/``, a folder of its own here, or refused; what it made has a digest."""
    outside = os.open("/", os.O_PATH)
    with tempfile.TemporaryDirectory(dir=_place()) as folder:
        os.chroot(folder)
        os.chdir("/")
        try:
            _unpack(data)
        finally:
            os.fchdir(outside)
            os.chroot(".")
            os.close(outside)


def _unpack(data: bytes) -> None:
    unpacker = untar.Unpacker(owners=os.getuid() == 0, most_bytes=_LAYER_BYTES, most_entries=1000)
    try:
        unpacker.unpack(io.BytesIO(_mend(data)))
    except untar.HostileError as error:
        str(error)
    else:
        tree_digest.tree_digest()
        assert unpacker.size <= _LAYER_BYTES


def _try_packed(data: bytes) -> None:
    """Decompressing never raises but what it promises, and never gives more at once than a piece."""
    taker = Taker(data)
    packing = (None, "gzip", "zstd", "plain")[taker.below(4)]
    blob = LayerBlob(name="x", digest=None, size=None, packing=packing, diff_id=f"sha256:{'0' * 64}")
    try:
        for number, piece in enumerate(layer_stream.tar_of(blob, io.BytesIO(taker.rest()))):
            assert len(piece) <= layer_stream._PIECE
            if number > 200:
                return
    except (ImageError, UnsupportedError) as error:
        str(error)


def _packed_seeds() -> Iterator[bytes]:
    packed = gzip.compress(b"text" * 100)
    yield b"\1" + packed
    yield b"\0" + packed + packed + b"\0" * 512
    yield b"\1" + packed[:-5]
    yield b"\3plain"


# ---- shared objects ----


def _try_elf(data: bytes) -> None:
    """As it is called: anything else than these ends the import of a module."""
    with tempfile.NamedTemporaryFile(dir=_place()) as file:
        file.write(data)
        file.flush()
        with suppress(OSError, ValueError, struct.error):
            child_setup.dynamic(file.name)


def _elf_seeds() -> Iterator[bytes]:
    yield from (path.read_bytes() for path in native.BUILDER.parent.glob("_atfork*.so"))


IMAGE_FILES = (
    Parser(name="descriptions", try_one=_try_description, seeds=_description_seeds),
    Parser(name="archives", try_one=_try_archive, seeds=_archive_seeds),
    Parser(name="layers", try_one=_try_layer, seeds=_layer_seeds, enter=_may_change_root),
    Parser(name="packed-layers", try_one=_try_packed, seeds=_packed_seeds),
    Parser(name="shared-objects", try_one=_try_elf, seeds=_elf_seeds),
)
