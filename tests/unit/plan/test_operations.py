"""How operations pack what C unpacks."""

from __future__ import annotations

from pytest_isolate.plan import operations as do


def test_numbers_are_packed_as_plan_h_says() -> None:
    assert do.chown("/a", 3, 4).number == 3 << 32 | 4
    assert do.copy("/a", "/b").number == 0
    assert do.copy("/a", "/b", 0).number == 1
    assert do.write("x", "/a").number == 0
    assert do.write("x", "a", slot=0).number == 1


def test_an_operation_is_its_step_its_number_and_four_strings_with_their_lengths() -> None:
    assert do.symlink("a\udcff", "/b").encode() == (
        b"\4\0\0\0" + bytes(8) + b"\2\0\0\0a\xff\0" + b"\2\0\0\0/b\0" + 2 * (bytes(4) + b"\0")
    )
