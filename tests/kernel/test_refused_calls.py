"""Each rule of the filter of system calls that a test is under, by what it answers. No call reaches the kernel."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

from tests.support.refused_calls import PASSED, X86, calls

REPOSITORY = Path(__file__).parent.parent.parent
#: What no namespace covers, by what the filter answers.
REFUSED = {
    "add_key": errno.ENOSYS, "request_key": errno.ENOSYS, "keyctl": errno.ENOSYS,
    "bpf": errno.EPERM, "perf_event_open": errno.EPERM, "kexec_load": errno.EPERM, "kexec_file_load": errno.EPERM,
    "open_by_handle_at": errno.EPERM, "x32 getppid": errno.ENOSYS, "32-bit getppid": errno.ENOSYS,
}  # fmt: skip


def test_what_no_namespace_covers_is_refused_and_nothing_else_is() -> None:
    program = [sys.executable, "-m", "tests.support.refused_calls"]
    answers = json.loads(subprocess.check_output(program, cwd=REPOSITORY, timeout=60))
    assert answers.keys() - {"32-bit getppid"} == calls().keys()
    assert X86 or "x32 getppid" not in answers
    for name, answer in answers.items():
        family = errno.EAFNOSUPPORT if "VSOCK" in name else errno.EPERM if "ioctl" in name else PASSED
        assert (name, answer) == (name, REFUSED.get(name, family))
