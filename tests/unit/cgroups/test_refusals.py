"""Each no of the kernel with what to do about it."""

from __future__ import annotations

import errno
import os

import pytest

from pytest_isolate.cgroups.hierarchies import Version
from pytest_isolate.cgroups.refusals import because


@pytest.mark.parametrize(
    ("number", "version", "remedy"),
    [
        (errno.EACCES, 2, "systemd-run --user --scope"),
        (errno.EACCES, 2, "chown -R $0 tests"),
        (errno.EACCES, 1, "Run as root"),
        (errno.EACCES, 1, "--isolate-cgroup=/tests"),
        (errno.EROFS, 2, "--privileged"),
        (errno.EBUSY, 2, "Delegate=yes"),
        (errno.ENOSPC, 2, "chown -R $0 tests"),
        (errno.ENOSPC, 1, "--isolate-cgroup=/tests"),
    ],
)
def test_each_errno_has_its_remedy(number: int, version: int, remedy: str) -> None:
    refusal = because("make a group in /cg", OSError(number, "", "/cg/x"), Version(version))
    assert refusal.reason == (f"cannot make a group in /cg (/cg/x): {errno.errorcode[number]} ({os.strerror(number)})")
    assert remedy in refusal.remedy


def test_an_error_without_errno_keeps_its_words() -> None:
    assert because("make a group", OSError("no such luck"), Version.V2).reason == "cannot make a group: no such luck"
