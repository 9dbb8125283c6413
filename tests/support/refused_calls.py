"""Makes system calls under the filter that a test is under, none of which reaches the kernel.

A first filter answers each of these calls with an errno of its own. Of two filters that refuse a call the one that was
installed last gives the errno (seccomp(2)), so a call that the second one, ours, lets pass is told from one that it
refuses; and nobody needs a right to make it, or does any harm.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import platform
import socket
import sys

from pytest_isolate.linux.flags import Clone
from pytest_isolate.linux.native import pidfd_open
from pytest_isolate.plan.plan import Plan
from pytest_isolate.sandbox.forker import Entry, Forker
from tests.support.seccomp_filter import (
    ALLOW,
    ARCH,
    ARGUMENTS,
    EQUAL,
    LOAD,
    NUMBER,
    REFUSE,
    RETURN,
    install,
    instruction,
)

#: The first filter's errno, which no system call here has.
PASSED = errno.EXFULL
#: Its errno for a call by ``int 0x80`` that the kernel takes for a 64-bit one, as User Mode Linux does.
_NO_32_BIT = errno.ENOANO
X86 = platform.machine() == "x86_64"
_X32 = 0x40000000
#: By name as in asm/unistd.h: on x86-64, on others (asm-generic/unistd.h).
_NUMBERS = {
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280),
    "perf_event_open": (298, 241), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "open_by_handle_at": (304, 265), "socket": (41, 198), "socketpair": (53, 199), "ioctl": (16, 29),
    "getppid": (110, 173),
}  # fmt: skip
_HIGH = 1 << 32  # a bit that the kernel does not look at
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_AUDIT_ARCH_I386 = 0x40000003


def calls() -> dict[str, tuple[int, ...]]:
    """Each call by name: number and arguments."""
    found: dict[str, tuple[int, ...]] = {name: (pair[0 if X86 else 1],) for name, pair in _NUMBERS.items()}
    plain, pair, ioctl = found.pop("socket"), found.pop("socketpair"), found.pop("ioctl")
    for name, high in (("", 0), (", high bits", _HIGH)):
        found[f"socket AF_VSOCK{name}"] = (*plain, socket.AF_VSOCK | high, socket.SOCK_STREAM)
        found[f"socketpair AF_VSOCK{name}"] = (*pair, socket.AF_VSOCK | high, socket.SOCK_STREAM)
        found[f"ioctl TIOCSTI{name}"] = (*ioctl, -1, _TIOCSTI | high)
        found[f"ioctl TIOCLINUX{name}"] = (*ioctl, -1, _TIOCLINUX | high)
    if X86:
        found["x32 getppid"] = (found["getppid"][0] | _X32,)
    return found


def _first_filter() -> bytes:
    """Refuse each of :func:`calls`, and a 32-bit getppid, which has the number of a 64-bit semget."""
    program = []
    if X86:
        program += [
            *(instruction(LOAD, NUMBER), instruction(EQUAL, 64, 0, 4)),
            *(instruction(LOAD, ARCH), instruction(EQUAL, _AUDIT_ARCH_I386, 0, 1)),
            *(instruction(RETURN, REFUSE | PASSED), instruction(RETURN, REFUSE | _NO_32_BIT)),
        ]
    for number, *arguments in calls().values():
        looked_at = [(NUMBER, number)]
        if arguments:  # of a socket its family, of an ioctl its request
            place = 1 if arguments[0] == -1 else 0
            looked_at.append((ARGUMENTS + 8 * place, arguments[place]))
        for place, (offset, value) in enumerate(looked_at):
            program += [instruction(LOAD, offset), instruction(EQUAL, value, 0, 2 * (len(looked_at) - place) - 1)]
        program.append(instruction(RETURN, REFUSE | PASSED))
    return b"".join([*program, instruction(RETURN, ALLOW)])


def _answers() -> dict[str, int]:
    """The errno of each call; 0: it went through."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = {}
    for name, words in calls().items():
        arguments = [ctypes.c_long(word) for word in (*words, *[0] * (7 - len(words)))]
        found[name] = ctypes.get_errno() if libc.syscall(*arguments) < 0 else 0
    if X86 and (answer := _call_32_bit()) is not None:
        found["32-bit getppid"] = answer
    return found


def _call_32_bit() -> int | None:
    """The errno of ``int 0x80`` with number 64; None where the kernel has no 32-bit calls."""
    pid = os.fork()
    if pid == 0:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(b"\xb8\x40\0\0\0\xcd\x80\xc3")  # mov eax, 64; int 0x80; ret
        function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
        os._exit(-min(0, function()))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None if status < 0 or status == _NO_32_BIT else status


def main() -> None:
    """Print the answers under the filter that a test has."""
    install(_first_filter())
    reader, writer = os.pipe()
    plan = Plan(namespaces=Clone(0))
    entry = Entry(init_pidfd=pidfd_open(os.getpid()), attach=(), close=(), cwd="/")
    forker = Forker()
    if forker.fork(plan, entry).pid == 0:
        os.write(writer, json.dumps(_answers()).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="ascii") as file:
        sys.stdout.write(file.read())
    forker.reap()


if __name__ == "__main__":
    main()
