"""The kernel gathers memory in huge pages when it is told to."""

from __future__ import annotations

import os
import re
from pathlib import Path

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


def _memory() -> dict[str, int]:
    """Bytes by name, of smaps_rollup (proc_pid_smaps(5))."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return {name: int(size) << 10 for name, size in re.findall(r"(\w+): +(\d+) kB", text)}
