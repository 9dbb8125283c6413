"""Python's small objects lie in blocks that the kernel can gather in huge pages, and are freed as before."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Many small objects, and what is mapped where they lie, by blocks of 2 MB.
_FILL = """
import sys
from pytest_isolate.linux import atfork, procfs

BLOCK = 2 << 20

def mapped():
    with open("/proc/self/maps") as maps:
        return [[int(end, 16) for end in line.split()[0].split("-")] for line in maps]

before = procfs.own_memory("resident")
held = [object() for _ in range(1 << 20)]  # 16 MB
"""
_WHOLE = """
blocks = {id(one) // BLOCK for one in held}
whole = [block for block in blocks if any(a <= block * BLOCK and (block + 1) * BLOCK <= b for a, b in mapped())]
assert len(whole) >= 7, (len(whole), len(blocks))
"""
_FREED = """
grown = procfs.own_memory("resident") - before
del held
left = procfs.own_memory("resident") - before
assert left < grown // 4, (grown, left)
held = [object() for _ in range(1 << 20)]
assert procfs.own_memory("resident") - before < grown * 1.1
"""


@pytest.mark.parametrize("rest", [_WHOLE, _FREED], ids=["whole", "freed"])
def test_arenas_fill_whole_blocks_and_are_given_back(rest: str) -> None:
    subprocess.run([sys.executable, "-c", _FILL + rest], check=True)
