"""The sandbox's own host name has an address inside, and the lines of /etc/hosts stay."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.in_sandbox import Job, prepared, sh

pytestmark = pytest.mark.needs("userns", "overlay", "utsns")
_LOOK_UP = """
import socket
name = socket.gethostname()
print(sorted({each[4][0] for each in socket.getaddrinfo(name, 1)}), socket.gethostbyname(name), bool(socket.getfqdn()))
"""


@pytest.mark.parametrize(
    "keys",
    [{}, {"hostname": "Here"}, {"user": "root"}, {"network": "host"}, {"network": "host", "user": "root"}],
    ids=str,
)
def test_the_name_has_the_addresses_of_the_loopback(keys: dict[str, Any], layout: str) -> None:
    seen = sh(f"python3 -c '{_LOOK_UP}'", layout=layout, **keys)
    assert seen.lines == ["['127.0.0.1', '::1'] 127.0.0.1 True"]
    assert seen.changes == []


def test_the_lines_that_are_there_stay_and_come_first(layout: str) -> None:
    before = Path("/etc/hosts").read_text().rstrip("\n")
    assert sh("cat /etc/hosts", layout=layout).output.startswith(before)


def test_a_name_that_is_there_is_not_added(layout: str) -> None:
    before = Path("/etc/hosts").read_text()
    assert "localhost" in before
    assert sh("cat /etc/hosts", layout=layout, hostname="localhost").output == before


def test_root_may_write_to_it_and_nothing_comes_back(layout: str) -> None:
    before = Path("/etc/hosts").read_text()
    seen = sh("echo 127.0.0.9 other >> /etc/hosts; getent hosts other", layout=layout, user="root")
    assert seen.lines == ["127.0.0.9       other"]
    assert Path("/etc/hosts").read_text() == before


def test_the_hosts_own_file_can_be_let_in(layout: str) -> None:
    seen = sh("cat /etc/hosts", layout=layout, writable="/etc/hosts")
    assert seen.output == Path("/etc/hosts").read_text()


def test_localhost_is_still_called_so(layout: str) -> None:
    code = 'import socket; print(socket.gethostbyaddr("127.0.0.1")[0])'
    assert sh(f"python3 -c '{code}'", layout=layout).lines == [socket.gethostbyaddr("127.0.0.1")[0]]


@pytest.mark.parametrize(
    ("script", "change"),
    [
        ("sed -i s/localhost/localhost/ /etc/hosts", "M /etc/hosts"),
        ("echo 127.0.0.1 x > /etc/new && mv /etc/new /etc/hosts", "M /etc/hosts"),
        ("touch /etc/hosts", "M /etc/hosts"),
        ("rm /etc/hosts", "D /etc/hosts"),
        ("mv /etc/hosts /etc/hosts.old", "D /etc/hosts"),
    ],
)
def test_the_file_can_be_replaced_and_removed_and_is_listed_then(script: str, change: str, layout: str) -> None:
    seen = sh(script, layout=layout, user="root")
    assert (seen.status, seen.output) == (0, "")
    assert change in seen.changes


def test_all_of_etc_can_be_removed(layout: str) -> None:
    seen = sh("rm -rf /etc/hosts /etc/h* && ls /etc/hosts", layout=layout, user="root")
    assert seen.lines == ["ls: cannot access '/etc/hosts': No such file or directory"]
    assert "D /etc/hosts" in seen.changes


_OWN_ETC = "mount -t tmpfs -o mode=755 none /mnt; mkdir /mnt/etc; cp -rp /etc/. /mnt/etc || :;"


@pytest.mark.parametrize(
    ("place", "setup"),
    [
        ("a mounted file", "echo 127.0.0.8 other >/mnt/etc/x; mount --bind /mnt/etc/x /etc/hosts"),
        ("a mounted folder", "echo 127.0.0.8 other >/mnt/etc/hosts; mount --bind /mnt/etc /etc"),
        (
            "the end of a link",
            """cd /mnt/etc; echo 127.0.0.8 other >x; rm hosts; ln -s /mnt/etc/x hosts; cd /
            mount --bind /mnt/etc /etc""",
        ),
        (
            "beside a mounted file",
            """cd /mnt/etc; echo 127.0.0.8 other >hosts; touch beside; mount --bind /mnt/etc /etc
            mount --bind /etc/passwd /etc/beside; cd /""",
        ),
    ],
)
def test_the_file_may_be(place: str, setup: str, layout: str) -> None:
    assert place
    job = Job(script=f"python3 -c '{_LOOK_UP}'; getent hosts other", layout=layout)
    seen = prepared(_OWN_ETC + setup, job)
    assert seen.lines == ["['127.0.0.1', '::1'] 127.0.0.1 True", "127.0.0.8       other"]
    assert not [change for change in seen.changes if change.endswith("/hosts")]


@pytest.mark.parametrize("setup", ["rm /mnt/etc/hosts", "cd /mnt/etc; rm hosts; ln -s nowhere hosts; cd /"])
def test_where_there_is_none_none_is_made(setup: str, layout: str) -> None:
    seen = prepared(f"{_OWN_ETC}{setup}; mount --bind /mnt/etc /etc", Job("cat /etc/hosts", layout=layout))
    assert seen.lines == ["cat: /etc/hosts: No such file or directory"]
