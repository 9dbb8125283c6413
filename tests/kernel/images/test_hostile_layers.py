"""Layers unpacked in the jail: what nobody honest writes does no harm."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from pytest_isolate.images.build.install import install
from pytest_isolate.images.store.store import Store
from pytest_isolate.images.store.unpack import Most
from pytest_isolate.sandbox import jail
from pytest_isolate.spec.errors import ImageError
from tests.support.image_layers import entry, layout, link, tar
from tests.support.unpacked import BASE, GONE, listed, refused, unpacked

#: A file with holes, whose content begins with a list of them.
_SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9", "GNU.sparse.name": "x"}
pytestmark = pytest.mark.needs("userns", "overlay")


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        pytest.param([entry("../../pwned", "x")], "'../../pwned' leads out of the layer", id="dotdot"),
        pytest.param([entry("/../../pwned", "x")], "'/../../pwned' leads out of the layer", id="slash and dotdot"),
        pytest.param([entry("a/.."), entry("x", "x")], "'a/..' leads out of the layer", id="ends in dotdot"),
        pytest.param([link("hard", "../../etc/passwd", hard=True)], "'../../etc/passwd' leads out", id="hard link out"),
        pytest.param(
            [link("hard", "etc/passwd", hard=True)], "to 'etc/passwd', no file of this layer", id="hard link to nothing"
        ),
        pytest.param([entry("d/"), link("hard", "d", hard=True)], "no file of this", id="hard link to a directory"),
        pytest.param([GONE, link("hard", "tree", hard=True)], "no file of this", id="hard link to a whiteout"),
        pytest.param([entry(".wh...", "")], "is no name of a whiteout", id="whiteout of dotdot"),
        pytest.param([entry(".wh.", "")], "is no name of a whiteout", id="whiteout of the directory itself"),
        pytest.param([entry("a" * 300, "x")], "File name too long", id="long name"),
        pytest.param([entry("a/" * 300)], "is nested 300 deep; the most is 255", id="deep"),
        pytest.param([link("up", "../../.."), entry("up/tmp/pwned", "x")], "", id="symlinked parent"),
        pytest.param([link("loop", "loop"), entry("loop/x", "x")], "cannot be unpacked", id="link to itself"),
        pytest.param([entry("x", "x", mtime=1e30)], "cannot be unpacked", id="time beyond all"),
        pytest.param([entry("x", "y\n", pax_headers=_SPARSE)], "the tar is damaged after 0", id="map of a sparse file"),
    ],
)
def test_a_layer_that_leads_out_or_is_impossible_is_refused_or_stays_inside(
    store: Store, entries: list[tuple[tarfile.TarInfo, bytes]], why: str
) -> None:
    if why:
        assert why in refused(store, tar(*entries))
    else:
        unpacked(store, tar(*entries))
    around = {str(path) for path in Path(store.path.parent).rglob("*pwned*") if "/fs/" not in str(path)}
    assert around == set()
    assert not any(os.path.lexists(f"{place}/pwned") for place in ("", "/tmp", "/var/tmp"))


def test_a_thousand_headers_for_one_entry_are_refused(store: Store) -> None:
    """Each says that the next has a longer name."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 5
    assert "the tar is damaged" in refused(store, (header.tobuf(tarfile.GNU_FORMAT) + bytes(512)) * 1200)


def test_an_absolute_name_is_one_in_the_layer(store: Store) -> None:
    merged = unpacked(store, tar(entry("/etc/isolate-test-pwned", "x")))
    assert listed(merged) == {"/etc": "d", "/etc/isolate-test-pwned": "x"}
    assert not Path("/etc/isolate-test-pwned").exists()


def test_a_link_to_the_host_and_a_file_through_it_stay_inside(store: Store, tmp_path: Path) -> None:
    """The link's target does not exist inside, so the layer is refused; where it does, that one is meant."""
    assert "cannot be unpacked" in refused(store, tar(link("esc", str(tmp_path)), entry("esc/pwned", "x")))
    made = [entry(str(tmp_path)), link("esc", str(tmp_path)), entry("esc/pwned", "x")]
    assert listed(unpacked(store, tar(*made)))[f"{tmp_path}/pwned"] == "x"
    assert not (tmp_path / "pwned").exists()


def test_a_file_written_through_a_hard_linked_symlink_stays_inside(store: Store, tmp_path: Path) -> None:
    """The order of CVE-2026-11940: a symlink, a hard link to it, a file of that name."""
    entries = [link("a", str(tmp_path / "pwned")), link("b", "a", hard=True), entry("b", "x")]
    assert listed(unpacked(store, tar(*entries))) == {"/a": f"-> {tmp_path / 'pwned'}", "/b": "x"}
    assert not (tmp_path / "pwned").exists()


def test_devices_are_left_out_also_one_that_would_be_a_whiteout(store: Store) -> None:
    entries = [
        entry("null", "", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry("disk", "", type=tarfile.BLKTYPE, devmajor=8, devminor=0),
        entry("file", "", type=tarfile.CHRTYPE, devmajor=0, devminor=0),
    ]
    merged = unpacked(store, BASE, tar(*entries))
    assert listed(merged) == listed(unpacked(store, BASE))
    left_out = [layer.left_out for chain in store.layers() if (layer := store.layer(chain)) and layer.left_out]
    assert left_out == [(("devices", 3),)]


def test_attributes_of_overlayfs_are_left_out_and_the_users_own_kept(store: Store) -> None:
    names = (
        "user.kept",
        "user.overlay.opaque",
        "trusted.overlay.opaque",
        "user.overlay.redirect",
        "security.capability",
    )
    headers = {f"SCHILY.xattr.{name}": "y" for name in names}
    merged = unpacked(store, BASE, tar(entry("tree/", pax_headers=headers)))
    assert os.listxattr(merged.layers[0] + "/tree") == ["user.kept"]
    assert listed(merged)["/tree/deep/file"] == "3"
    counted = [layer.left_out for chain in store.layers() if (layer := store.layer(chain)) and layer.left_out]
    assert counted == [tuple((f"attributes {name}", 1) for name in sorted(names) if name != "user.kept")]


def test_a_layer_that_is_too_large_is_refused(store: Store) -> None:
    bomb = tar(entry("a", bytes(1 << 20)), entry("b", bytes(1 << 20)))
    assert f"more than {1 << 20} bytes" in refused(store, bomb, most=Most(size=1 << 20))
    many = tar(*(entry(str(number), "") for number in range(11)))
    assert "more than 10 entries" in refused(store, many, most=Most(entries=10))


def test_a_header_that_is_too_large_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """tarfile reads a header whole, and the process may not grow that much."""
    monkeypatch.setattr(jail, "_MEMORY", 32 << 20)
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 64 << 20
    assert "a header after 0 entries is too large" in refused(store, info.tobuf() + bytes(65 << 20))


def test_a_tar_that_is_cut_off_is_refused(store: Store) -> None:
    assert "the tar is damaged after 1 entries" in refused(store, tar(entry("a", bytes(5000)))[:2048])


def test_a_blob_with_another_digest_leaves_nothing(store: Store, tmp_path: Path) -> None:
    folder = layout(tmp_path / "image", BASE)
    for blob in (folder / "blobs/sha256").iterdir():
        if blob.read_bytes()[:2] == b"\x1f\x8b":
            blob.write_bytes(blob.read_bytes() + b"\0")
    with pytest.raises(ImageError, match="is damaged: its digest is"):
        install(str(folder), store)
    assert (store.layers(), os.listdir(store.path / "tmp")) == ([], [])
