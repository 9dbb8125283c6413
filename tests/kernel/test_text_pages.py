"""A fork has the interpreter's text at hand, where a plain one comes to it by page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_isolate.linux import native

#: Prints the share of a process's pages of text that a fork of it has from the start.
_SHARE = """
import ctypes, os, struct, sys
from pytest_isolate.linux import native

def text():
    function = ctypes.cast(ctypes.pythonapi.PyOS_AfterFork_Child, ctypes.c_void_p).value
    with open("/proc/self/maps") as maps:
        for line in maps:
            start, end = (int(each, 16) for each in line.split()[0].split("-"))
            if start <= function < end:
                return start, end

def present(start, end):
    with open("/proc/self/pagemap", "rb", buffering=0) as pages:
        pages.seek(start // 4096 * 8)
        entries = struct.iter_unpack("=Q", pages.read((end - start) // 4096 * 8))
    return {number for number, (entry,) in enumerate(entries) if entry >> 63}

start, end = text()
before = ctypes.string_at(start, end - start)  # which also makes all of it present
done = native.inherit_text() if sys.argv[1:] else 0
assert ctypes.string_at(start, end - start) == before
own = present(start, end)
reader, writer = os.pipe()
if not os.fork():
    os.write(writer, b"%d" % len(own & present(start, end)))
    os._exit(0)
os.wait()
print(done, int(os.read(reader, 100)) / len(own))
"""


def _share(*words: str) -> tuple[int, float]:
    command = [sys.executable, "-c", _SHARE, *words]
    done, share = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    return int(done), float(share)


def test_a_fork_has_the_text_of_its_parent_from_the_start() -> None:
    done, share = _share("inherit")
    if not done:
        pytest.skip("this kernel lets no process write to its own text (proc_mem.force_override)")
    assert share == 1


def test_a_plain_fork_has_not() -> None:
    """Else there would be nothing to do."""
    assert _share() < (1, 0.9)


def test_it_may_be_asked_for_again() -> None:
    assert native.inherit_text() == native.inherit_text()
