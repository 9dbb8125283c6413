"""What would bring a machine to its knees, and fails: each report names the limit that the test broke."""

from __future__ import annotations

import os
import time

import pytest


@pytest.mark.isolate(memory="50M")
def test_eats_memory():
    eaten = []
    while True:
        eaten.append(bytearray(1 << 20))


@pytest.mark.isolate(pids=50)
def test_fork_bomb():
    while True:
        if os.fork() == 0:
            time.sleep(3600)


@pytest.mark.isolate(timeout=2)
def test_never_ends():
    time.sleep(3600)


@pytest.mark.isolate
def test_crashes():
    os.abort()
