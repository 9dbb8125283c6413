"""Lists of mounts, as the kernel writes them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_isolate.linux.mountinfo import below, parse, visible


def test_a_line_is_read_with_its_optional_fields_and_escapes() -> None:
    (mount,) = parse(rb"36 35 98:0 /m /mnt\040a\134b rw,noexec shared:1 master:2 - ext3 /dev/root\040x ro,errors=x")
    assert (mount.number, mount.parent, mount.point, mount.kind) == (36, 35, "/mnt a\\b", "ext3")
    assert mount.read_only
    assert "noexec" in mount.options


def test_a_name_that_is_no_utf_8_survives() -> None:
    (mount,) = parse(b"36 35 98:0 / /m\xff - tmpfs tmpfs rw".replace(b" - ", b" rw - "))
    assert mount.point.encode("utf-8", "surrogateescape") == b"/m\xff"


def test_what_is_mounted_on_comes_before_what_is_mounted_there() -> None:
    lines = b"9 1 0:1 / / rw - ext4 a rw\n3 5 0:3 / /a/b/c rw - tmpfs c rw\n5 9 0:2 / /a/b rw - tmpfs b rw"
    assert [mount.point for mount in visible(parse(lines))] == ["/", "/a/b", "/a/b/c"]


def test_a_mount_is_hidden_by_one_stacked_on_it_with_all_below() -> None:
    lines = b"1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /a rw - tmpfs lower rw\n3 2 0:3 / /a/b rw - xfs hidden rw\n"
    found = visible(parse(lines + b"4 2 0:4 / /a rw - tmpfs top ro"))
    assert [(mount.point, mount.number) for mount in found] == [("/", 1), ("/a", 4)]


def test_a_mount_is_hidden_by_one_above_it_in_the_same_parent() -> None:
    lines = b"1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /a/b rw - tmpfs hidden rw\n3 1 0:3 / /a rw - tmpfs top rw"
    assert [mount.number for mount in visible(parse(lines))] == [1, 3]


def test_in_a_chroot_the_root_has_no_line() -> None:
    assert [mount.point for mount in visible(parse(b"7 3 0:1 / /proc rw - proc proc rw"))] == ["/proc"]


@pytest.mark.parametrize(
    ("path", "top", "expected"), [("/a/b", "/a", True), ("/a", "/a", False), ("/ab", "/a", False), ("/a", "/", True)]
)
def test_below_is_about_whole_names(path: str, top: str, *, expected: bool) -> None:
    assert below(path, top) is expected


#: Every name that the kernel allows: any bytes but NUL and, within a path, "/".
_NAMES = st.lists(st.binary(min_size=1, max_size=20).filter(lambda name: not {0, 47} & {*name}), min_size=1, max_size=4)


def _escaped(text: bytes) -> bytes:
    """As the kernel writes it (fs/proc_namespace.c, mangle): no other sign is."""
    return re.sub(rb"[ \t\n\\#]", lambda found: b"\\%03o" % found[0][0], text)


@given(
    names=_NAMES, root=_NAMES, source=st.binary(max_size=20).filter(lambda text: 0 not in text), tags=st.integers(0, 3)
)
def test_any_name_that_the_kernel_allows_is_read_back(
    names: list[bytes], root: list[bytes], source: bytes, tags: int
) -> None:
    point, top = (b"/" + b"/".join(parts) for parts in (names, root))
    optional = b"".join(b" shared:%d" % number for number in range(tags))
    line = b"36 35 98:0 %s %s rw%s - ext4 %s rw" % (_escaped(top), _escaped(point), optional, _escaped(source))

    found = parse(b"1 0 0:1 / / rw - ext4 a rw\n" + line + b"\n2 1 0:3 / /b rw - tmpfs b rw\n")

    assert [mount.number for mount in found] == [1, 36, 2]
    read = (found[1].point, found[1].root, found[1].source)
    assert tuple(text.encode("utf-8", "surrogateescape") for text in read) == (point, top, source)


@given(tree=st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["/", "/a", "/a/b", "/a/b/c", "/d"])), max_size=12))
def test_of_any_mounts_no_two_that_are_visible_are_at_one_place_and_parents_come_first(
    tree: list[tuple[int, str]],
) -> None:
    lines = [
        b"%d %d 0:1 / %s rw - tmpfs a rw" % (1 + at, parent, point.encode()) for at, (parent, point) in enumerate(tree)
    ]
    points = [mount.point for mount in visible(parse(b"\n".join(lines)))]

    assert not [point for at, point in enumerate(points) if any(below(point, later) for later in points[at:])]
