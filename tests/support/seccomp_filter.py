"""Filters of system calls in the words of classic BPF, as seccomp(2) takes them."""

from __future__ import annotations

import ctypes
import struct

LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06  # with an operand: BPF_LD, BPF_JEQ, BPF_JSET, BPF_RET
ALLOW, REFUSE = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
NUMBER, ARCH, ARGUMENTS = 0, 4, 16  # where struct seccomp_data has them; an argument has eight bytes
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2


def instruction(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    """One; ``yes`` and ``no``: how many a comparison leaps over."""
    return struct.pack("=HBBI", code, yes, no, value & 0xFFFFFFFF)


def install(program: bytes) -> None:
    """Put this process under the filter, and all that it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(program)
    described = struct.pack("@HxxxxxxP", len(program) // len(instruction(0, 0)), ctypes.addressof(code))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(described), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "cannot install the filter")
