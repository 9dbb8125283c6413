"""The try of a way to the outside, and why there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_isolate.sandbox.probe import nat
from pytest_isolate.spec.errors import SetupError, UnsupportedError
from tests.support.hosts import HOST


def test_a_device_that_is_missing_or_closed_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/pasta")
    device = tmp_path / "tun"
    monkeypatch.setattr(nat, "_TUN", str(device))
    with pytest.raises(UnsupportedError, match=rf"cannot open {device}: ENOENT .*modprobe tun"):
        nat.look(HOST, lambda _: None)
    device.touch(mode=0)
    if os.geteuid():
        with pytest.raises(UnsupportedError, match=rf"cannot open {device}: EACCES .*chmod 666 "):
            nat.look(HOST, lambda _: None)


def test_a_try_that_fails_is_a_lack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/pasta")
    monkeypatch.setattr(nat, "_TUN", str(tmp_path / "tun"))
    (tmp_path / "tun").touch()
    error = SetupError("connect it to the outside", "", 0, "pasta says: No interface")
    with pytest.raises(
        UnsupportedError, match=r"here: cannot connect it to the outside \(pasta says: No interface\)\."
    ):
        nat.look(HOST, lambda _: error)
    assert nat.look(HOST, lambda _: None).program == "/usr/bin/pasta"
