"""Runs a command under a filter that refuses system calls, as container engines have one.

    python -m tests.support.refusing_seccomp NAME=ERRNO... -- COMMAND...

``clone`` is refused where it makes namespaces; any other call always.
"""

from __future__ import annotations

import errno
import os
import platform
import sys

from tests.support.seccomp_filter import (
    ALLOW,
    ANY_BIT,
    ARGUMENTS,
    EQUAL,
    LOAD,
    NUMBER,
    REFUSE,
    RETURN,
    install,
    instruction,
)

#: By name: the number on x86-64, on others (asm-generic/unistd.h).
_NUMBERS = {
    "clone": (56, 220), "clone3": (435, 435), "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40),
    "umount2": (166, 39), "pivot_root": (155, 41), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "mount_setattr": (442, 442),
}  # fmt: skip
#: What Docker's default profile refuses a container without CAP_SYS_ADMIN, of what sandboxes are made by.
DOCKER = ("clone3=ENOSYS", *(f"{name}=EPERM" for name in _NUMBERS if name != "clone3"))
#: CLONE_NEW* of clone(2): time namespaces have no bit there.
NEW_NAMESPACES = 0x7E020000


def command(*refused: str) -> list[str]:
    """What to put before a command."""
    return [sys.executable, "-m", "tests.support.refusing_seccomp", *refused, "--"]


def _program(refused: list[str]) -> bytes:
    program = []
    for each in refused:
        name, _, answer = each.partition("=")
        number = _NUMBERS[name][0 if platform.machine() == "x86_64" else 1]
        looked_at = []
        if name == "clone":
            looked_at = [instruction(LOAD, ARGUMENTS), instruction(ANY_BIT, NEW_NAMESPACES, 0, 1)]
        program += [instruction(LOAD, NUMBER), instruction(EQUAL, number, 0, len(looked_at) + 1)]
        program += [*looked_at, instruction(RETURN, REFUSE | getattr(errno, answer))]
    return b"".join([*program, instruction(RETURN, ALLOW)])


if __name__ == "__main__":
    place = sys.argv.index("--")
    install(_program(sys.argv[1:place]))
    os.execvp(sys.argv[place + 1], sys.argv[place + 1 :])
