"""Layers unpacked in the jail: what tools write comes out right, and what nobody honest writes does no harm."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest

from pytest_isolate import jail as jails
from pytest_isolate.errors import ImageError
from pytest_isolate.images.merged import Merged
from pytest_isolate.images.store import Layer, Store, remove_tree
from pytest_isolate.jail import Jail
from pytest_isolate.unpacking import Most, install, verify
from tests.layers import entry, layout, link, tar

ROOT = os.geteuid() == 0
pytestmark = pytest.mark.needs("userns", "overlay")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    place = tmp_path / "store"
    yield Store(place)
    if place.exists():
        remove_tree(place)


def unpacked(store: Store, *layers: bytes, most: Most | None = None) -> Merged:
    """The tree of an image of ``layers``, the lowest first."""
    folder = store.place.parent / f"image{len(list(store.place.parent.iterdir()))}"
    stack = install(str(layout(folder, *layers)), store, most=most)
    return Merged([store.tree(chain) for chain in reversed(stack.layers)])


def listed(merged: Merged) -> dict[str, str]:
    """Every path, with the content of files, the target of links, and the kind of the rest."""
    found = {}
    for path, each in merged.walk():
        if each.is_link:
            found[path] = "-> " + os.readlink(each.real[0])
        elif stat.S_ISREG(each.status.st_mode):
            found[path] = Path(each.real[0]).read_text()
        else:
            found[path] = stat.filemode(each.status.st_mode)[0]
    return found


def refused(store: Store, *layers: bytes, most: Most | None = None) -> str:
    """Why an image of ``layers`` is refused; nothing of the layer is left."""
    with pytest.raises(ImageError) as caught:
        unpacked(store, *layers, most=most)
    assert len(store.layers()) < len(layers)
    assert store.images() == []
    assert os.listdir(store.place / "tmp") == []
    return str(caught.value)


def layer_of(store: Store) -> Layer:
    layer = store.layer(store.layers()[0])
    assert layer is not None
    return layer


# ------------------------------------------------------------------------------------------------------ faithful


def test_files_directories_links_and_pipes_come_out_as_the_tar_has_them(store: Store) -> None:
    merged = unpacked(
        store,
        tar(
            entry("./"),
            entry("./bin/", mode=0o555),
            entry("./bin/tool", "run", mode=0o4755, mtime=1234567890),
            link("./bin/name", "bin/tool", hard=True),
            link("./link", "/bin/tool"),
            entry("pipe", "", type=tarfile.FIFOTYPE),
            entry("closed", "secret", mode=0),
            entry("wörk", "ü"),
        ),
    )
    found = {path: each.status for path, each in merged.walk()}
    assert sorted(found) == ["/bin", "/bin/name", "/bin/tool", "/closed", "/link", "/pipe", "/wörk"]
    assert stat.filemode(found["/bin/tool"].st_mode) == "-rwsr-xr-x"
    assert stat.filemode(found["/bin"].st_mode) == "dr-xr-xr-x"
    assert found["/bin/tool"].st_mtime == 1234567890
    assert found["/bin/tool"].st_ino == found["/bin/name"].st_ino
    assert stat.S_ISFIFO(found["/pipe"].st_mode)
    assert found["/closed"].st_size == 6
    assert layer_of(store).left_out == ()


def test_owners_are_the_tars_as_root_and_the_users_without(store: Store) -> None:
    merged = unpacked(store, tar(entry("file", "x", uid=1234, gid=5678, mode=0o6755)))
    status = merged.below(merged.root, "file").status  # type: ignore[union-attr]
    assert (status.st_uid, status.st_gid) == ((1234, 5678) if ROOT else (os.getuid(), os.getgid()))
    assert stat.S_IMODE(status.st_mode) == 0o6755
    assert layer_of(store).owners == ROOT


def test_nobody_else_can_reach_an_unpacked_layer(store: Store) -> None:
    """There may be set-user-ID programs in it, and they would work from there."""
    unpacked(store, tar(entry("su", "x", mode=0o4755)))
    assert stat.S_IMODE(Path(store.tree(store.layers()[0])).parent.stat().st_mode) == 0o700


BASE = tar(
    entry("etc/", mode=0o750),
    entry("etc/kept", "1"),
    entry("etc/gone", "2"),
    entry("tree/"),
    entry("tree/deep/"),
    entry("tree/deep/file", "3"),
    entry("file", "4"),
)


TREE, NEW, OPAQUE = entry("tree/"), entry("tree/new", "5"), entry("tree/.wh..wh..opq", "")
GONE = entry(".wh.tree", "")
REPLACED = {"/tree/deep": None, "/tree/new": "5"}


@pytest.mark.parametrize(
    ("upper", "differs"),
    [
        pytest.param([entry("etc/.wh.gone", "")], {"/etc/gone": None}, id="of a file"),
        pytest.param([GONE], {"/tree": None}, id="of a directory"),
        pytest.param([entry("etc/.wh.never", "")], {}, id="of nothing"),
        pytest.param([OPAQUE, NEW], REPLACED, id="opaque"),
        pytest.param([NEW, OPAQUE], REPLACED, id="opaque, told last"),
        pytest.param([GONE, TREE, NEW], REPLACED, id="before its successor"),
        pytest.param([TREE, NEW, GONE], REPLACED, id="behind its successor"),
        pytest.param([GONE, NEW], REPLACED, id="of a directory gone through"),
        pytest.param([entry("tree", "5")], {"/tree/deep": None, "/tree": "5"}, id="a file replaces a directory"),
        pytest.param([entry("file/"), entry("file/x", "5")], {"/file": "d", "/file/x": "5"}, id="and back"),
        pytest.param([link("tree", "etc")], {"/tree/deep": None, "/tree": "-> etc"}, id="a link replaces a directory"),
        pytest.param([entry("file", "5"), entry("file/"), entry("file", "6")], {"/file": "6"}, id="the last counts"),
    ],
)
def test_a_whiteout_hides_what_lies_below_and_nothing_of_its_own_layer(
    store: Store, upper: list[tuple[tarfile.TarInfo, bytes]], differs: dict[str, str | None]
) -> None:
    expected = listed(unpacked(store, BASE))
    for path, content in differs.items():
        expected = {each: text for each, text in expected.items() if each != path and not each.startswith(f"{path}/")}
        if content is not None:
            expected[path] = content
    if differs.get("/tree/new"):
        expected["/tree"] = "d"
    merged = unpacked(store, BASE, tar(*upper))
    assert listed(merged) == expected
    assert _mounted(store, merged) == expected


def _mounted(store: Store, merged: Merged) -> dict[str, str]:
    """What overlayfs makes of it: the kernel's word on whether the layers are right."""
    empty, target = store.place / "empty", store.place / "mounted"
    empty.mkdir()
    target.mkdir()
    lowers = ":".join([*merged.layers, str(empty)])
    each = '[ -L "$1" ] || cat "$1" 2>/dev/null; echo'
    script = f"""
        mount -t overlay overlay -o lowerdir={lowers},userxattr {target} && cd {target} &&
        find . -mindepth 1 -printf '%P\\t%y\\t%l\\t' -exec sh -c '{each}' - {{}} \\;
    """
    unshare = ["unshare", "--mount"] if ROOT else ["unshare", "--user", "--map-root-user", "--mount"]
    done = subprocess.run([*unshare, "sh", "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    found = {}
    for line in done.stdout.splitlines():
        path, kind, linked, content = line.split("\t")
        found[f"/{path}"] = f"-> {linked}" if kind == "l" else content if kind == "f" else kind
    return found


def test_a_directory_that_a_layer_only_goes_through_keeps_its_attributes(store: Store) -> None:
    merged = unpacked(store, BASE, tar(entry("etc/new", "5"), entry("tree/deep/new", "6")))
    assert stat.S_IMODE(merged.at("/etc").status.st_mode) == 0o750  # type: ignore[union-attr]


def test_layers_are_shared_by_images_and_unpacked_once(store: Store) -> None:
    one = unpacked(store, BASE)
    inode = os.stat(one.layers[0]).st_ino
    two = unpacked(store, BASE, tar(entry("top", "1")))
    assert two.layers[-1] == one.layers[0]
    assert os.stat(two.layers[-1]).st_ino == inode
    assert len(store.layers()) == 2


def test_every_change_to_a_layer_is_found(store: Store) -> None:
    merged = unpacked(store, BASE)
    chain, place = store.layers()[0], Path(merged.layers[0])
    with Jail() as jail:
        assert verify(jail, store, chain)
        for change, back in (("touch new", "rm new"), ("chmod 700 tree", "chmod 755 tree"), ("echo 5 >file", "")):
            subprocess.run(["sh", "-ec", change], cwd=place, check=True)
            assert not verify(jail, store, chain)
            subprocess.run(["sh", "-ec", back], cwd=place, check=True)


# ------------------------------------------------------------------------------------------------------- hostile


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
    ],
)
def test_a_layer_that_leads_out_or_is_impossible_is_refused_or_stays_inside(
    store: Store, entries: list[tuple[tarfile.TarInfo, bytes]], why: str
) -> None:
    if why:
        assert why in refused(store, tar(*entries))
    else:
        unpacked(store, tar(*entries))
    around = {str(path) for path in Path(store.place.parent).rglob("*pwned*") if "/fs/" not in str(path)}
    assert around == set()
    assert not any(os.path.lexists(f"{place}/pwned") for place in ("", "/tmp", "/var/tmp"))


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
    monkeypatch.setattr(jails, "_MEMORY", 32 << 20)
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
    assert (store.layers(), os.listdir(store.place / "tmp")) == ([], [])


# --------------------------------------------------------------------------------------------------- other tools


def _facts(place: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for folder, directories, files in os.walk(place):
        for name in directories + files:
            path = Path(folder, name)
            status = path.lstat()
            content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
            found[str(path.relative_to(place))] = (status.st_mode, status.st_uid, status.st_gid, content)
    return found


@pytest.mark.skipif(not (which("umoci") and which("skopeo")), reason="needs umoci and skopeo (Debian packages)")
def test_an_image_made_and_copied_by_other_tools_is_unpacked_as_they_unpack_it(store: Store, tmp_path: Path) -> None:
    def tool(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, timeout=60)

    rootless = () if ROOT else ("--rootless",)
    tool("umoci", "init", "--layout", "made")
    tool("umoci", "new", "--image", "made:a")
    tool("umoci", "unpack", *rootless, "--image", "made:a", "b")
    rootfs = tmp_path / "b/rootfs"
    steps = (
        """mkdir -p etc/sub usr/bin; echo 1 >etc/a; echo 2 >etc/sub/b; echo 3 >usr/bin/x; chmod 4711 usr/bin/x
           ln -s a etc/l; ln etc/a etc/hard; chmod 700 etc/sub""",
        """rm etc/a; rm -r etc/sub; mkdir etc/sub; echo new >etc/sub/c; rm etc/l; echo file >etc/l
           rm usr/bin/x; mkdir usr/bin/x""",
        "echo 2 >usr/bin/x/y; rm -r etc/sub; echo 4 >etc/sub",
    )
    for step in steps:
        subprocess.run(["sh", "-ec", step], cwd=rootfs, check=True)
        tool("umoci", "repack", "--refresh-bundle", "--image", "made:a", "b")
    tool("skopeo", "copy", "-q", "oci:made:a", "oci:copied:a")
    tool("umoci", "unpack", *rootless, "--image", "copied:a", "theirs")
    stack = install(str(tmp_path / "copied"), store)
    assert len(stack.layers) == len(steps)
    merged = Merged([store.tree(chain) for chain in reversed(stack.layers)])
    ours = {}
    for path, each in merged.walk():
        real = Path(each.real[0])
        content = os.readlink(real) if each.is_link else real.read_bytes() if real.is_file() else None
        ours[path[1:]] = (each.status.st_mode, each.status.st_uid, each.status.st_gid, content)
    assert ours == _facts(tmp_path / "theirs/rootfs")
