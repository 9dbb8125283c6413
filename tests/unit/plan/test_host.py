"""Facts of a host, as data."""

from __future__ import annotations

import errno

from pytest_isolate.plan.host import Lack, group_range, identity


def test_a_reason_names_step_object_and_errno() -> None:
    lack = Lack(what="fresh_proc", step="mount proc", target="/proc", errno=errno.EPERM)
    assert lack.reason == "cannot mount proc on /proc: EPERM (Operation not permitted)"


def test_maps_of_all_ids_are_taken_from_what_is_known_here() -> None:
    assert identity("         0     100000      65536\n") == "0 0 65536\n"
    assert group_range("0 100000 65536\n") == (0, 65535)
    assert group_range("0 0 4294967295\n") == (0, 2147483647)
