"""Blobs of layers, however they are packed, and whether they are what their digests say."""

from __future__ import annotations

import gzip
import io
import subprocess
import zlib
from shutil import which

import pytest

from pytest_isolate.images.oci import layer_stream
from pytest_isolate.images.oci.layout_reader import LayerBlob
from pytest_isolate.spec.errors import ImageError, UnsupportedError
from tests.support.image_layers import digest, entry, tar

ONE, TWO = tar(entry("a", "1")), tar(entry("b", "2"))


def _unpacked(data: bytes, packing: str | None, expected: bytes = ONE) -> bytes:
    blob = LayerBlob(name="layer", digest=digest(data), size=len(data), packing=packing, diff_id=digest(expected))
    return b"".join(layer_stream.tar_of(blob, io.BytesIO(data)))


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=data, stdout=subprocess.PIPE, check=True).stdout


def test_a_layer_is_unpacked_as_its_media_type_or_its_first_bytes_say() -> None:
    packed = {
        "plain": [ONE],
        "gzip": [gzip.compress(ONE), gzip.compress(ONE[:100]) + gzip.compress(ONE[100:])],
        "zstd": [_zstd(ONE)] if which("zstd") else [],
    }
    for packing, blobs in packed.items():
        for blob in blobs:
            assert _unpacked(blob, packing) == _unpacked(blob, None) == ONE


def test_a_few_bytes_that_stand_for_many_come_in_pieces() -> None:
    many = bytes(8 << 20)
    blob = LayerBlob(name="layer", digest=None, size=None, packing="gzip", diff_id=digest(many))
    sizes = [len(piece) for piece in layer_stream.tar_of(blob, io.BytesIO(gzip.compress(many)))]
    assert sum(sizes) == len(many)
    assert max(sizes) <= 1 << 18


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
@pytest.mark.parametrize("damage", ["cut off", "changed"])
def test_a_damaged_layer_is_refused(packing: str, damage: str) -> None:
    if packing == "zstd" and not which("zstd"):
        pytest.skip("no zstd program here")
    data = gzip.compress(ONE) if packing == "gzip" else _zstd(ONE)
    data = data[:-9] if damage == "cut off" else data[:40] + b"\xff\xff\xff\xff" + data[44:]
    with pytest.raises(ImageError, match=r"cannot be decompressed|is damaged"):
        _unpacked(data, packing)


def test_a_blob_or_a_tar_with_another_digest_is_refused() -> None:
    data = gzip.compress(ONE)
    for blob, tar_digest in ((digest(b"other"), digest(ONE)), (digest(data), digest(TWO))):
        layer = LayerBlob(name="layer", digest=blob, size=None, packing="gzip", diff_id=tar_digest)
        with pytest.raises(ImageError, match="is damaged: its digest is"):
            list(layer_stream.tar_of(layer, io.BytesIO(data)))


def test_without_anything_that_reads_zstd_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_stream, "which", lambda _: None)
    monkeypatch.setattr(layer_stream, "_zstd_module", lambda: None)
    with pytest.raises(UnsupportedError, match="Install the program"):
        _unpacked(b"\x28\xb5\x2f\xfd", "zstd")


def test_a_module_that_reads_zstd_is_used() -> None:
    """Its interface, played by zlib: none of the Pythons here has the real one."""

    class Stand:
        ZstdError = zlib.error

        class ZstdDecompressor:
            def __init__(self) -> None:
                self._state, self._rest = zlib.decompressobj(), b""

            def decompress(self, data: bytes, most: int) -> bytes:
                found = self._state.decompress(self._rest + data, most)
                self._rest = self._state.unconsumed_tail
                return found

            @property
            def eof(self) -> bool:
                return self._state.eof

            @property
            def needs_input(self) -> bool:
                return not self._rest

            @property
            def unused_data(self) -> bytes:
                return self._state.unused_data

    many = bytes(1 << 20) + ONE
    packed = [zlib.compress(many), zlib.compress(ONE)]
    assert b"".join(layer_stream._unzstd(Stand, iter([packed[0][:7], packed[0][7:] + packed[1]]))) == many + ONE
    with pytest.raises(EOFError):
        list(layer_stream._unzstd(Stand, iter([packed[0][:-5]])))
