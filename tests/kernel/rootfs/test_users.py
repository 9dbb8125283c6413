"""Owners, modes and ids inside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.in_sandbox import ROOT, Job, prepared, sh

pytestmark = pytest.mark.needs("userns", "overlay")


@pytest.mark.skipif(not ROOT, reason="makes files of other users")
def test_owners_and_modes_are_those_outside(folder: Path) -> None:
    (folder / "file").touch()
    os.chown(folder / "file", 1234, 5678)
    (folder / "file").chmod(0o640)
    names = (str(folder / "file"), "/", "/tmp", "/etc/shadow")
    script = f"stat -c '%u %g %a' {folder}/file / /tmp /etc/shadow; chown 77 {folder}/file && stat -c %u {folder}/file"
    seen = sh(script, layout="root")
    expected = [f"{s.st_uid} {s.st_gid} {s.st_mode & 0o7777:o}" for s in map(os.stat, names)]
    assert (seen.status, seen.lines) == (0, [*expected, "77"])
    assert (folder / "file").stat().st_uid == 1234


def test_the_top_of_a_mount_keeps_its_mode(layout: str) -> None:
    setup = "mount -t tmpfs -o mode=3751 none /mnt"
    assert prepared(setup, Job(script="stat -c %a /mnt", layout=layout)).lines == ["3751"]


@pytest.mark.skipif(not ROOT, reason="mounts")
def test_the_top_of_a_mount_keeps_its_owner() -> None:
    setup = "mount -t tmpfs -o uid=1234,gid=5678 none /mnt"
    assert prepared(setup, Job(script="stat -c '%u %g' /mnt")).lines == ["1234 5678"]


def test_a_user_is_himself_or_root_inside(layout: str) -> None:
    assert sh("id -u; id -g", layout=layout).lines == [str(os.geteuid()), str(os.getegid())]
    assert sh("id -u; id -g", layout=layout, user="root").lines == ["0", "0"]


@pytest.mark.skipif(ROOT, reason="for root nothing is unreadable")
def test_what_a_user_cannot_read_is_there_and_cannot_be_read() -> None:
    hidden = next((path for path in ("/root", "/lost+found") if not os.access(path, os.R_OK)), None)
    if hidden is None:
        pytest.skip("everything is readable here")
    seen = sh(f"stat -c %F {hidden}; ls {hidden}", layout="rootless")
    assert seen.lines[0] == "directory"
    assert "Permission denied" in seen.output


@pytest.mark.skipif(not ROOT, reason="needs a program of root's that gains rights")
def test_a_setuid_program_gives_nothing(folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "id").write_bytes(Path("/usr/bin/id").read_bytes())
    (folder / "id").chmod(0o4755)
    code = f"import os; os.setgid(65534); os.setuid(65534); os.execv('{folder}/id', ['id', '-u'])"
    assert sh(f'python3 -c "{code}"', layout="root").lines == ["65534"]
