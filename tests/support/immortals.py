"""Programs that have their heap searched for what becomes immortal, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from pytest_isolate.session import immortal_heap

HAS_IMMORTALS = immortal_heap._count() is not None
needs_immortals = pytest.mark.skipif(not HAS_IMMORTALS, reason="this Python has no immortal objects (3.12 has)")
#: Before and after the search of a program's own module.
BEGIN = """
import gc, sys, weakref
from pytest_isolate.session.immortal_heap import ImmortalHeap

def immortal(thing):
    return sys.getrefcount(thing) >= 1 << 31

def search():
    ImmortalHeap().settle(1000)
    assert immortal(search)
"""


def run(program: str, *arguments: str, begin: str = BEGIN) -> str:
    """What a program prints; nothing may be said on its standard error."""
    done = subprocess.run(
        [sys.executable, "-c", begin + textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
