"""TCP sockets that listen in this process's network namespace, as /proc/net shows them (proc_net_tcp.rst)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import NamedTuple

from pytest_isolate.linux import files
from pytest_isolate.linux.procfs import PROC

_LISTENING = "0A"  # TCP_LISTEN of include/net/tcp_states.h
_TABLES = ("tcp", "tcp6")


class Listener(NamedTuple):
    """A socket that listens."""

    inode: int
    uid: int  #: of its owner
    address: str  #: and port, as the kernel's table has it; :func:`decode` reads it


def listening(proc: Path = PROC) -> Iterator[Listener]:
    """All of them. :raises OSError: the kernel does not tell."""
    for table in _TABLES:
        path = f"{proc}/self/net/{table}"
        try:
            lines = files.read_text(path).splitlines()
        except FileNotFoundError:  # a kernel without that family
            continue
        except OSError as error:  # of a read, it has no name
            raise OSError(error.errno, error.strerror, path) from error
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTENING:
                yield Listener(int(fields[9]), int(fields[7]), fields[1])


def decode(address: str) -> tuple[IPv4Address | IPv6Address, int]:
    """Address and port of ``0100007F:0050``."""
    digits, _, port = address.partition(":")
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    raw = struct.pack(f"={len(words)}I", *words)  # each word is shown as a number, but holds bytes in network order
    return IPv4Address(raw) if len(words) == 1 else IPv6Address(raw), int(port, 16)
