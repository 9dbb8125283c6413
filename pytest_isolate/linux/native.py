"""The typed face of the C core, ``_native/core_api.h``: the only module that imports cffi's."""

from __future__ import annotations

import os
from abc import ABCMeta
from collections.abc import Mapping, Sequence
from enum import IntFlag
from pathlib import Path
from types import ModuleType
from typing import Any, NewType

from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.flags import Clone

#: Other modules take them by name when they are imported; before anything is called of them, available() is asked.
ffi: Any = None
lib: Any = None
try:
    from pytest_isolate.linux._native._core import ffi as _ffi
    from pytest_isolate.linux._native._core import lib as _lib
except ImportError as error:  # not Linux, or an installation without the compiled part
    _missing: ImportError | None = error
else:
    _missing = None
    ffi, lib = _ffi, _lib
Fd = NewType("Fd", int)
#: The program that makes sandboxes; see the top of ``_native/builder.c``.
BUILDER = Path(__file__).with_name("_native") / "builder"
#: The program that starts others, such as the former; see the top of ``_native/start.c``.
STARTER = BUILDER


def available() -> str | None:
    """None if the C core can be used, else why not."""
    if _missing is not None:
        return f"the compiled part of pytest-isolate-ns is missing ({_missing})"
    if not calls.access(BUILDER, os.X_OK):
        return f"{BUILDER} is missing or cannot be executed"
    return None


def remedy() -> str:
    """What to do where :func:`available` names a reason."""
    folder = Path(__file__).parents[2]
    if (folder / "setup.py").exists():  # "python -m" takes a package from the current folder first
        return f"Python has found the sources in {folder}: start it in another folder, or build them (pip install -e)."
    return "Install it on Linux, from a wheel or with a C compiler."


def pidfd_open(pid: int) -> Fd:
    """A descriptor that is readable once the process has ended (pidfd_open(2)); close-on-exec."""
    fd = lib.isolate_pidfd_open(pid)
    if fd < 0:
        raise OSError(ffi.errno, calls.strerror(ffi.errno), f"pidfd_open({pid})")
    return Fd(fd)


def unshare(namespaces: Clone) -> None:
    """Make this process's own namespaces (unshare(2)). Never in pytest's process.

    :raises OSError: if the kernel refuses.
    """
    if lib.isolate_unshare(int(namespaces)) < 0:
        raise OSError(ffi.errno, calls.strerror(ffi.errno), "unshare")


def setns(fd: int, namespaces: Clone) -> None:
    """Join namespaces (setns(2)) of a process, by its pidfd, or the one that ``fd`` is of. Never in pytest's process.

    :raises OSError: if the kernel refuses, or the process has ended.
    """
    if lib.isolate_setns(fd, int(namespaces)) < 0:
        raise OSError(ffi.errno, calls.strerror(ffi.errno), "setns")


def send_unblocked(pid: int, number: int) -> None:
    """Send a child process signal ``number`` though it may block it: ptrace(2) unblocks it in its main thread first.

    :raises OSError: if the process has ended.
    """
    if lib.isolate_dump_signal(pid, number) < 0:
        raise OSError(ffi.errno, calls.strerror(ffi.errno), f"kill({pid})")


def library(path: str) -> object:
    """Load a shared object (dlopen(3)); it is unloaded with the handle that is returned.

    :raises OSError: if it can't be loaded.
    """
    handle: object = ffi.dlopen(path, os.RTLD_LAZY)
    return handle


def library_loaded(name: str) -> bool:
    """Whether a shared object of that name is in this process, from whatever path."""
    return bool(lib.isolate_library_loaded(calls.fsencode(name)))


def remove_tree(path: str) -> None:
    """Remove a file or directory and all below it, however deep, as far as that can be done."""
    lib.isolate_remove_tree(calls.fsencode(path))


def collapse(start: int, limit: int) -> tuple[int, int, int]:
    """Gather up to ``limit`` blocks of 2 MB of this process's heap, from address ``start`` on, in huge pages.

    :return: how many were gathered, how many it tried, and where to go on: 0 after the last.
    """
    where, tried = ffi.new("uint64_t *", start), ffi.new("long *")
    done = lib.isolate_collapse(where, limit, tried)
    return int(done), int(tried[0]), int(where[0])


def align_heap() -> None:
    """Have the heap grow from where a huge page begins, if this process has one thread.

    Then :func:`collapse` can gather it to its end. Before a fork, so does the child's.
    """
    lib.isolate_align_heap()


def inherit_text() -> int:
    """Have forks copy the page tables of the interpreter's text and libc's, in the place of a page fault each 64 kB.

    :return: of how many mappings; 0: this process may not write to them (proc_pid_mem(5)), and all stays as it is.
    """
    return int(lib.isolate_inherit_text())


class Kind(IntFlag):
    """What instances of a class are to :func:`make_immortal`; ``enum isolate_kind``, which explains them."""

    HARMLESS = 1
    MADE = 2
    HOLDS = 4
    CODE = 8
    INSTANCES = 16


def keeps_count(count: int) -> bool:
    """Whether this interpreter leaves the reference count of an object alone that has ``count``."""
    return bool(lib.isolate_keeps_count(count))


def make_immortal(
    modules: Sequence[ModuleType], kinds: Mapping[type, Kind], lasting: Sequence[object], count: int
) -> int:
    """Make functions, classes and constants of modules immortal, where that does no harm (``_native/immortal.c``).

    :param kinds: what instances of exactly that class are; of all others, that they may do harm.
    :param lasting: made immortal without a look at what they hold.
    :param count: what the reference count of an immortal object is; :func:`keeps_count` must be true.
    :return: how many have become so.
    """
    held, types, more = [*modules], [*kinds], [*lasting]  # C gets their addresses
    values = [int(kind) for kind in kinds.values()]
    return int(lib.isolate_make_immortal(id(held), id(types), values, id(more), id(ABCMeta), count))


def finalize(one: object) -> None:
    """Call ``one.__del__`` as if its end had come; it is not called again then."""
    lib.isolate_finalize(id(one))


def landlock_version() -> int:
    """The kernel's Landlock ABI (landlock_create_ruleset(2)); 0 where there is none."""
    return max(0, int(lib.isolate_landlock_version()))
