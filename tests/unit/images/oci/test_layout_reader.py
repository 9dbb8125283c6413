"""Images as tools wrote them."""

from __future__ import annotations

import gzip
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pytest_isolate.images.oci.layout_reader import Image, open_image
from pytest_isolate.spec.errors import ImageError
from tests.support.image_layers import digest, docker_save, entry, layout, tar

ONE, TWO = tar(entry("a", "1")), tar(entry("b", "2"))


def image_in(path: Path) -> Image:
    with open_image(str(path)) as (_, image):
        return image


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
        ({"config": {"Env": ["A=\0"]}}, "sets the variable 'A' to .* which no variable can hold"),
        ({"config": {"Env": ["\ud800=b"]}}, "which no variable can hold"),
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


def test_an_index_of_nothing_but_brackets_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text("[" * 100_000)
    with pytest.raises(ImageError, match="is no JSON"):
        image_in(tmp_path)


def test_an_archive_whose_headers_say_what_no_number_is_cannot_be_read(tmp_path: Path) -> None:
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9", "GNU.sparse.name": "x"}
    (tmp_path / "image.tar").write_bytes(tar(entry("x", "y\n", pax_headers=headers)))
    with pytest.raises(ImageError, match="is no tar archive"):
        image_in(tmp_path)
