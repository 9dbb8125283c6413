"""/dev/shm inside is a copy-on-write view of the host's: what a fixture made there by name is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.needs("sandbox")
_TESTS = """
import multiprocessing, os, tempfile
from multiprocessing import shared_memory
import pytest

@pytest.fixture(scope="session")
def block():
    memory = shared_memory.SharedMemory(create=True, size=1000)
    memory.buf[:3] = b"abc"
    yield memory
    assert bytes(memory.buf[:3]) == b"abc"
    memory.close()
    memory.unlink()

@pytest.mark.isolate
def test_by_name(block):
    other = shared_memory.SharedMemory(name=block.name)
    assert bytes(other.buf[:3]) == b"abc"
    other.buf[:3] = b"xyz"
    other.close()

@pytest.fixture(scope="module")
def lock():
    return multiprocessing.get_context("spawn").Lock()

def use(lock):
    with lock:
        pass

@pytest.mark.isolate
def test_a_lock_is_given_to_a_spawned_process(lock):
    process = multiprocessing.get_context("spawn").Process(target=use, args=(lock,))
    process.start()
    process.join()
    assert process.exitcode == 0

@pytest.fixture(scope="module")
def file():
    with tempfile.NamedTemporaryFile("w+", dir="/dev/shm") as file:
        file.write("made outside")
        file.flush()
        yield file.name

@pytest.mark.isolate
def test_a_file(file):
    assert open(file).read() == "made outside"
    os.rename(file, file + "-new")
    assert not os.path.exists(file)

@pytest.mark.isolate
def test_tmp_path(tmp_path):
    (tmp_path / "a").write_text("x")
    open("/dev/shm/isolate-test-left", "w").close()
"""


@pytest.mark.parametrize("place", ["", "TMPDIR", "basetemp"])
def test_shared_memory_by_name_and_temporary_folders_are_seen(
    project: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.pytester.makepyfile(_TESTS)
    if place == "TMPDIR":
        monkeypatch.setenv("TMPDIR", "/dev/shm")

    folder = Path(f"/dev/shm/isolate-test-{os.getpid()}")

    result = project.run(*([f"--basetemp={folder}"] if place == "basetemp" else []))

    result.assert_outcomes(passed=4)
    assert not os.path.exists("/dev/shm/isolate-test-left")
    if place == "basetemp":
        shutil.rmtree(folder)
