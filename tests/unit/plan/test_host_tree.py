"""What is found out about this host's tree."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from pytest_isolate.plan import host_tree


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="there is no /dev/shm here")
@pytest.mark.parametrize("libc", ["glibc 2.28", "glibc 2.33", "glibc 2.34", "glibc 3.0"])
def test_shared_memory_can_be_a_layer_only_where_the_c_library_takes_one(
    libc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "confstr", lambda _: libc)
    mode = stat.S_IMODE(os.stat("/dev/shm").st_mode)
    old = libc in ("glibc 2.28", "glibc 2.33")
    assert host_tree.look(important=(), rootless=False).shared_memory == (None if old else mode)


def test_a_directory_that_may_be_passed_but_not_listed_is_not_taken_for_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_passed = SimpleNamespace(
        lstat=os.lstat, access=lambda _path, mode, **_options: mode == os.X_OK, scandir=refuse
    )
    monkeypatch.setattr(host_tree, "calls", only_passed)

    entry = host_tree.entry_at(str(tmp_path))

    assert entry is not None
    assert (entry.access, entry.empty) == (1, False)


def refuse(path: str) -> NoReturn:
    raise PermissionError(path)
