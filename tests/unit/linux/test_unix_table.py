"""Which Unix sockets can be reached by a path, by the kernel's table."""

from __future__ import annotations

from pathlib import Path

from pytest_isolate.linux import unix_table

TABLE = """\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 11 /run/a server
0000000000000000: 00000003 00000000 00000000 0001 03 12 /run/a server
0000000000000000: 00000002 00000000 00000000 0002 01 13 /run/datagrams
0000000000000000: 00000002 00000000 00010000 0001 01 14 @abstract
0000000000000000: 00000002 00000000 00010000 0001 01 15 relative
0000000000000000: 00000003 00000000 00000000 0001 03 16
"""


def test_servers_are_told_by_path_and_what_was_accepted_is_not(tmp_path: Path) -> None:
    (tmp_path / "self/net").mkdir(parents=True)
    (tmp_path / "self/net/unix").write_text(TABLE)

    assert list(unix_table.bound(tmp_path)) == [("/run/a server", 11), ("/run/datagrams", 13), ("relative", 15)]


def test_a_path_may_have_any_character(tmp_path: Path) -> None:
    (tmp_path / "self/net").mkdir(parents=True)
    fields = "0000000000000000: 00000002 00000000 00010000 0001 01"
    text = f"{TABLE}{fields} 17 /run/a\rb\x85c\n{fields} 18 /run/d\ne f g h i j k /x\n{fields} 19 /run/l  \n"
    (tmp_path / "self/net/unix").write_bytes(text.encode("utf-8"))

    assert list(unix_table.bound(tmp_path))[3:] == [("/run/a\rb\x85c", 17), ("/run/d", 18), ("/run/l  ", 19)]


def test_a_kernel_that_does_not_tell_has_none(tmp_path: Path) -> None:
    assert not list(unix_table.bound(tmp_path))
