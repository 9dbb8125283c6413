"""Processes in groups as a test has them, without sandbox or keeper.

``ISOLATE_CGROUP`` names a delegated group (as ``--isolate-cgroup``) for a user who has none by himself. Where the host
lacks a controller its tests are skipped, or fail if ``ISOLATE_MUST`` names it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from pytest_isolate.cgroups import cgroupfs
from pytest_isolate.cgroups.interface import CgroupTree
from pytest_isolate.spec.spec import Limits

GIVEN = os.environ.get("ISOLATE_CGROUP")
MB = 1 << 20


def needs(tree: CgroupTree, *controllers: str) -> None:
    lacks = {name: f"{name}: {tree.lacks[name][0]}" for name in controllers if name in tree.lacks}
    must = {"all", *lacks} & set(os.environ.get("ISOLATE_MUST", "").split(","))
    if lacks and must:
        pytest.fail("; ".join(lacks.values()))
    if lacks:
        pytest.skip("; ".join(lacks.values()))


@contextmanager
def made(tree: CgroupTree, limits: Limits, name: str = "t1", devices: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """Make a test's groups as the builder does; the files to enter by."""
    directories, attach = [], []
    try:
        for one in tree.dirs(limits, devices=devices):
            if one.shared:
                attach.append(f"{one.parent}/{one.attach}")
                continue
            directory = f"{one.parent}/{name}"
            os.mkdir(directory)
            directories.append(directory)
            attach.append(f"{directory}/{one.attach}")
            for file, text in one.files:
                with suppress(FileNotFoundError) if file.startswith("?") else ExitStack():
                    cgroupfs.put(f"{directory}/{file.lstrip('?')}", text)
        yield attach
    finally:
        for directory in directories:
            cgroupfs.clear(directory)


def start(attach: list[str], body: Callable[[], object]) -> int:
    """Fork a process that enters the groups as the core's child does, runs ``body`` and exits with 0 if that returns.

    It has entered when this returns.
    """
    descriptors = [os.open(path, os.O_WRONLY) for path in attach]
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        status = 70
        try:
            for descriptor in descriptors:
                os.write(descriptor, b"0")
            os.write(writer, b".")
            body()
            status = 0
        except OSError as error:
            status = error.errno or 70
        finally:
            os._exit(status)
    os.close(writer)
    os.read(reader, 1)
    for descriptor in (*descriptors, reader):
        os.close(descriptor)
    return pid


def run(attach: list[str], body: Callable[[], object]) -> int:
    """The exit status of :func:`start`'s process, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(start(attach, body), 0)[1])


def spin(seconds: float) -> None:
    started = time.process_time()
    while time.process_time() - started < seconds:
        pass
