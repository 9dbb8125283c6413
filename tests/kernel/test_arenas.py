"""Python's small objects lie in blocks that the kernel can gather in huge pages, and are freed as before.

What its stack of frames is made of is kept, for the next time that it grows.
"""

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


_FRAMES = """
import os, resource
from pytest_isolate.linux import atfork

def down(calls):
    if calls:
        down(calls - 1)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(200):
        down(400)  # some chunks of 16 KB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

down(400)
assert faults() < 200
if (child := os.fork()) == 0:
    os._exit(faults() >= 200)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_stack_of_frames_that_grows_again_and_again_maps_nothing_anew() -> None:
    subprocess.run([sys.executable, "-c", _FRAMES], check=True)


_INTERPRETERS = """
import threading
import _interpreters as interpreters
from pytest_isolate.linux import atfork

WORK = '''
def down(calls):
    if calls:
        down(calls - 1)

for turn in range(15):
    held = [(turn, number, str(number)) for number in range(60_000)]
    assert all(one == (turn, number, str(number)) for number, one in enumerate(held))
    for _ in range(20):
        down(300)
'''

def run():
    interpreter = interpreters.create()
    ended.append(interpreters.exec(interpreter, WORK))
    interpreters.destroy(interpreter)

ended = []
threads = [threading.Thread(target=run) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert ended == [None] * 4, ended
"""


@pytest.mark.skipif(sys.version_info < (3, 13), reason="no module for interpreters with a GIL of their own")
def test_interpreters_with_a_gil_of_their_own_never_get_the_same_memory() -> None:
    subprocess.run([sys.executable, "-c", _INTERPRETERS], check=True)
