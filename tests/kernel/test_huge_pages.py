"""The kernel gathers memory in huge pages when it is told to."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_isolate.linux import native

_BLOCK = 2 << 20


def test_a_filled_heap_is_gathered_in_huge_pages_and_grows_little() -> None:
    held = bytearray(b"x") * (32 << 20)
    before = _memory()
    start = gathered = 0
    while True:
        done, _, start = native.collapse(start, 4)
        gathered += done
        if not start:
            break
    after = _memory()
    release = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
    possible = release >= (6, 1) and Path("/sys/kernel/mm/transparent_hugepage").exists()
    assert bool(gathered) == possible
    assert after["AnonHugePages"] - before["AnonHugePages"] <= gathered * _BLOCK
    assert after["Rss"] - before["Rss"] <= _BLOCK * 3  # of blocks that were partly filled; this code needs some, too
    assert held.count(b"x") == len(held)
    if possible:
        assert after["AnonHugePages"] >= 10 * _BLOCK


#: Its heap is written to by what is too large for Python's own allocator, and too small for a mapping of its own.
GROW = """
import os
from pytest_isolate.linux import native

held = [bytearray(4000) for _ in range(100)]
native.align_heap()
if os.fork():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
held += [bytearray(4000) for _ in range(2000)]
for line in open("/proc/self/maps"):
    if "[heap]" in line:
        print(line.split("-")[0])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc has a heap at the break")
def test_what_the_heap_of_a_fork_grows_by_begins_where_a_huge_page_does() -> None:
    done = subprocess.run([sys.executable, "-c", GROW], capture_output=True, text=True, timeout=60, check=True)
    _inherited, *own = (int(start, 16) for start in done.stdout.split())
    assert [start % _BLOCK for start in own] == [0]


def _memory() -> dict[str, int]:
    """Bytes by name, of smaps_rollup (proc_pid_smaps(5))."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return {name: int(size) << 10 for name, size in re.findall(r"(\w+): +(\d+) kB", text)}
