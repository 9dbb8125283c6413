from __future__ import annotations

import platform

import pytest

from pytest_isolate.sandbox import stalled
from pytest_isolate.sandbox.stalled import StallPatience

FUTEX = {"x86_64": 202, "aarch64": 98}[platform.machine()]


@pytest.mark.parametrize(
    ("call", "endless"),
    [
        (f"{FUTEX} 0x7f00 0x189 0x0 0x0 0x0 0xffffffff 0x7ffd 0x7f12", True),
        (f"{FUTEX} 0x7f00 0x80 0x2 0x0 0x0 0x0 0x7ffd 0x7f12", True),
        (f"{FUTEX} 0x7f00 0x109 0x0 0x0 0x0 0xffffffff 0x7ffd 0x7f12", False),  # another process may release it
        (f"{FUTEX} 0x7f00 0x189 0x0 0x7ffd10 0x0 0xffffffff 0x7ffd 0x7f12", False),  # it has a time-out
        (f"{FUTEX} 0x7f00 0x81 0x1 0x0 0x0 0x0 0x7ffd 0x7f12", False),  # FUTEX_WAKE
        ("230 0x0 0x0 0x7ffd 0x0 0x0 0x0 0x7ffd 0x7f12", False),
        ("running", False),
        ("-1 0x7ffd 0x7f12", False),
        ("", False),
    ],
)
def test_a_private_lock_without_a_time_out_is_an_endless_wait(call: str, endless: bool) -> None:  # noqa: FBT001
    assert stalled._is_endless(call.split()) is endless


def test_it_is_over_when_three_looks_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [frozenset({(1, "0x1", "7")}), frozenset({(1, "0x1", "8")})]
    monkeypatch.setattr(stalled, "waits", lambda _: seen[0])
    patience = StallPatience(30, 100)
    assert patience.next_look == 110
    assert [patience.is_over(now, tuple) for now in (105, 110, 120)] == [False, False, False]
    seen.reverse()  # the thread has run meanwhile
    assert [patience.is_over(now, tuple) for now in (130, 140, 150)] == [False, False, True]


def test_it_is_never_over_without_a_limit() -> None:
    assert StallPatience(0, 100).next_look is None
    assert not StallPatience(0, 100).is_over(1e9, tuple)
