"""Layers unpacked in the jail: what tools write comes out right."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
from pathlib import Path
from shutil import which

import pytest

from pytest_isolate.images.build.install import install
from pytest_isolate.images.root.merged_tree import Merged
from pytest_isolate.images.store.store import Store
from pytest_isolate.images.store.unpack import verify
from pytest_isolate.sandbox.jail import own_jail
from tests.support.image_layers import entry, link, tar
from tests.support.unpacked import BASE, GONE, layer_of, listed, unpacked

pytestmark = pytest.mark.needs("userns", "overlay")


ROOT = os.geteuid() == 0


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


TREE, NEW, OPAQUE = entry("tree/"), entry("tree/new", "5"), entry("tree/.wh..wh..opq", "")
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
    empty, target = store.path / "empty", store.path / "mounted"
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
    with own_jail() as unpacker:
        assert verify(unpacker, store, chain)
        for change, back in (("touch new", "rm new"), ("chmod 700 tree", "chmod 755 tree"), ("echo 5 >file", "")):
            subprocess.run(["sh", "-ec", change], cwd=place, check=True)
            assert not verify(unpacker, store, chain)
            subprocess.run(["sh", "-ec", back], cwd=place, check=True)


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
