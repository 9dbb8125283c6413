"""Images as tools wrote them, the streams of layers, the store, the merged view: nothing here needs a jail."""

from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from pytest_isolate import image_names
from pytest_isolate.errors import ImageError, UnsupportedError
from pytest_isolate.images import stream
from pytest_isolate.images.merged import Merged, differences
from pytest_isolate.images.source import Image, LayerBlob, opened
from pytest_isolate.images.store import Layer, Stack, Store, chain_ids, default_place
from tests.layers import digest, docker_save, entry, layout, tar

ONE, TWO = tar(entry("a", "1")), tar(entry("b", "2"))


def image_in(path: Path) -> Image:
    with opened(str(path)) as (_, image):
        return image


# ------------------------------------------------------------------------------------------------------ sources


def test_an_oci_layout_is_read_with_layers_digests_and_environment(tmp_path: Path) -> None:
    image = image_in(layout(tmp_path, ONE, TWO, env=["PATH=/bin", "EMPTY=", "A=b=c"]))

    assert [layer.diff_id for layer in image.layers] == [digest(ONE), digest(TWO)]
    assert [layer.packing for layer in image.layers] == ["gzip", "gzip"]
    assert image.env == (("PATH", "/bin"), ("EMPTY", ""), ("A", "b=c"))


def test_an_archive_of_a_layout_is_the_same_image(tmp_path: Path) -> None:
    layout(tmp_path / "layout", ONE)
    folder = tmp_path / "folder"
    folder.mkdir()
    with tarfile.open(folder / "image.tar", "w") as archive:
        archive.add(tmp_path / "layout", arcname=".")

    assert image_in(folder) == image_in(folder / "image.tar") == image_in(tmp_path / "layout")


def test_an_archive_of_docker_save_is_read(tmp_path: Path) -> None:
    image = image_in(docker_save(tmp_path / "saved.tar", ONE, TWO))

    assert [(layer.name, layer.diff_id) for layer in image.layers] == [
        ("0/layer.tar", digest(ONE)),
        ("1/layer.tar", digest(TWO)),
    ]


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"architecture": "mips"}, "is made for linux/mips, which this machine"),
        ({"os": "windows"}, "is made for windows/None"),
        ({"rootfs": {"diff_ids": []}}, "names 1 layers and 0 digests"),
        ({"rootfs": {"diff_ids": ["sha256:../../etc/passwd"]}}, "is no digest; allowed are sha256 and sha512"),
        ({"rootfs": None}, "its description lacks or mistakes a field"),
    ],
)
def test_what_is_wrong_with_an_image_is_named(tmp_path: Path, configuration: dict[str, Any], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        image_in(layout(tmp_path, ONE, **configuration))


def test_an_image_without_layers_is_told_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="has no layers, and so no files"):
        image_in(layout(tmp_path))


def test_this_machines_architecture_is_taken(tmp_path: Path) -> None:
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    assert image_in(layout(tmp_path, ONE, architecture=architecture)).layers


def test_a_manifest_that_was_changed_is_refused(tmp_path: Path) -> None:
    layout(tmp_path, ONE)
    manifest = json.loads((tmp_path / "index.json").read_text())["manifests"][0]["digest"]
    _edit(tmp_path / "blobs/sha256" / manifest.removeprefix("sha256:"), annotations={"changed": "yes"})
    with pytest.raises(ImageError, match="is damaged: its digest is sha256"):
        image_in(tmp_path)


def test_a_folder_without_an_image_says_what_could_be_in_it(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"holds no image: neither an OCI image layout \(index.json\), nor an archive"):
        image_in(tmp_path)


def test_an_archive_that_is_compressed_or_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(gzip.compress(ONE))
    with pytest.raises(ImageError, match="must be decompressed first"):
        image_in(tmp_path)


def test_a_layer_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"a layer is of the media type .*; known are tar, gzip and zstd"):
        image_in(layout(tmp_path, ONE, packed={0: (".tar+lz4", b"")}))


# ------------------------------------------------------------------------------------------------------ streams


def _unpacked(data: bytes, packing: str | None, expected: bytes = ONE) -> bytes:
    blob = LayerBlob(name="layer", digest=digest(data), size=len(data), packing=packing, diff_id=digest(expected))
    return b"".join(stream.tar_of(blob, io.BytesIO(data)))


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
    sizes = [len(piece) for piece in stream.tar_of(blob, io.BytesIO(gzip.compress(many)))]
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
            list(stream.tar_of(layer, io.BytesIO(data)))


def test_without_anything_that_reads_zstd_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "which", lambda _: None)
    monkeypatch.setattr(stream, "_zstd_module", lambda: None)
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
    assert b"".join(stream._unzstd(Stand, iter([packed[0][:7], packed[0][7:] + packed[1]]))) == many + ONE
    with pytest.raises(EOFError):
        list(stream._unzstd(Stand, iter([packed[0][:-5]])))


# ------------------------------------------------------------------------------------------------------ the store


def test_chain_ids_are_those_of_the_specification() -> None:
    a, b = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    assert chain_ids([a, b]) == ["a" * 64, digest(f"{a} {b}".encode()).removeprefix("sha256:")]


def test_the_store_is_in_the_users_cache_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_place() == Path("/somewhere/pytest-isolate-ns/images-1")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the specification
    assert default_place() == Path("~/.cache/pytest-isolate-ns/images-1").expanduser()


def _layer(chain: str) -> Layer:
    return Layer(chain=chain, diff_id="d", parent=None, tree="t", entries=1, size=1, owners=True, left_out=(("x", 1),))


def _add(place: Path, chain: str, file: str) -> None:
    with Store(place).adding(chain) as tree:
        with open(file, "a") as note:
            note.write("there\n" if tree is None else "unpacks\n")
        if tree is not None:
            Path(tree, "file").touch()
            Store(place).publish(tree, _layer(chain))


def test_a_layer_that_several_processes_want_is_unpacked_by_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_add, args=(tmp_path / "s", "c", str(tmp_path / "note"))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted((tmp_path / "note").read_text().split()) == ["there", "there", "there", "unpacks"]
    assert Store(tmp_path / "s").layer("c") == _layer("c")


def test_what_was_not_finished_is_no_layer_and_is_gone_with_the_next_try(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.adding("c"):
        raise RuntimeError
    (tmp_path / "tmp/c.killed/fs").mkdir(parents=True)
    assert store.layers() == []
    assert store.layer("c") is None
    _add(tmp_path, "c", str(tmp_path / "note"))
    assert os.listdir(tmp_path / "tmp") == []


def _stack(digest_: str, *chain: str, source: str = "/a") -> Stack:
    return Stack(digest=digest_, layers=chain, env=(("A", "b"),), sources=(source,))


def test_a_sweep_leaves_what_an_image_needs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for chain in ("base", "top", "other"):
        _add(tmp_path, chain, str(tmp_path / "note"))
    store.register(_stack("sha256:1", "base", "top"))
    store.register(_stack("sha256:2", "base"))
    (tmp_path / "tmp/x.killed").mkdir()
    assert store.sweep() == 1
    assert store.layers() == ["base", "top"]
    store.remove_image("sha256:1")
    assert store.sweep() == 1
    assert store.layers() == ["base"]
    assert os.listdir(tmp_path / "tmp") == []


def test_an_image_is_one_whose_layers_are_there_and_keeps_all_its_folders(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.register(_stack("sha256:1", "base"))
    assert store.image("sha256:1") is None
    _add(tmp_path, "base", str(tmp_path / "note"))
    store.register(_stack("sha256:1", "base", source="/b"))
    store.register(_stack("sha256:1", "base", source="/c"))
    assert store.image("sha256:1") == Stack(
        digest="sha256:1", layers=("base",), env=(("A", "b"),), sources=("/a", "/b", "/c")
    )


def test_a_store_that_cannot_be_written_says_where_it_is_and_how_to_move_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="XDG_CACHE_HOME names another place"), Store(tmp_path / "file/x").adding("c"):
        pass


# ------------------------------------------------------------------------------------------------ merged layers


def _links(tmp_path: Path) -> Merged:
    (tmp_path / "top/usr/bin").mkdir(parents=True)
    (tmp_path / "low/usr/lib").mkdir(parents=True)
    (tmp_path / "low/usr/lib/x").write_text("x")
    (tmp_path / "low/lib").symlink_to("usr/lib")
    (tmp_path / "low/loop").symlink_to("loop")
    (tmp_path / "low/out").symlink_to("/../../etc")
    return Merged([str(tmp_path / "top"), str(tmp_path / "low")])


def test_links_are_followed_within_the_image(tmp_path: Path) -> None:
    merged = _links(tmp_path)
    path, found = merged.resolved("/lib/x")
    assert path == "/usr/lib/x"
    assert found is not None
    assert found.real == (str(tmp_path / "low/usr/lib/x"),)
    assert merged.resolved("/out/passwd") == ("/etc/passwd", None)
    assert merged.resolved("/lib/new/../x")[0] == "/usr/lib/x"
    with pytest.raises(OSError, match="Too many levels"):
        merged.resolved("/loop/x")
    with pytest.raises(NotADirectoryError):
        merged.resolved("/lib/x/y")
    assert merged.at("/lib/x") is None  # takes no links


def test_directories_are_merged_and_the_topmost_says_what_they_are(tmp_path: Path) -> None:
    merged = _links(tmp_path)
    usr = merged.at("/usr")
    assert usr is not None
    assert merged.names(usr) == ["bin", "lib"]
    assert usr.real[0] == str(tmp_path / "top/usr")
    assert list(differences(Merged([str(tmp_path / "top")]), merged)) == [
        ("A", "/lib"),
        ("A", "/loop"),
        ("A", "/out"),
        ("A", "/usr/lib"),
        ("A", "/usr/lib/x"),
    ]


# --------------------------------------------------------------------------------------------------------- names


def test_names_of_images_are_the_folders(tmp_path: Path) -> None:
    for name in ("busybox", "debian-slim", ".hidden", "__pycache__"):
        (tmp_path / name).mkdir()
    (tmp_path / "README.md").touch()
    assert image_names.in_folder(str(tmp_path)) == ["busybox", "debian-slim"]
    assert image_names.unknown("busibox", str(tmp_path)).endswith(
        "there are busybox, debian-slim. Did you mean busybox?"
    )
    assert image_names.unknown("x", str(tmp_path / "none")) == f"there are no images in {tmp_path / 'none'}."


def test_neither_the_package_nor_the_plugin_loads_image_code() -> None:
    script = (
        "import sys, pytest_isolate, pytest_isolate.pytest_plugin; "
        "print(sorted(name for name in sys.modules if name.startswith('pytest_isolate.images') "
        "or name in ('tarfile', 'pyroute2', 'pytest_isolate.jail', 'pytest_isolate.unpacking')))"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "[]\n"
