"""In the test's process, first thing on the image: lets the host's interpreter go on.

Extension modules that are imported only now need shared objects of the host, but the dynamic linker looks for them in
the image, by an index that is the image's own. It takes one that is loaded already, though, whatever its path: what it
compares is the object's name (ELF's DT_SONAME). So what an extension module needs is loaded from the host's copy just
before it.
"""

from __future__ import annotations

import linecache
import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from types import ModuleType
from typing import Any

from pytest_isolate.linux import files, native
from pytest_isolate.linux.calls import calls

_DYNAMIC, _LOAD = 2, 1  # kinds of program headers (elf(5))
_ELF = b"\x7fELF\2" + (b"\1" if sys.byteorder == "little" else b"\2")  # EI_MAG, EI_CLASS, EI_DATA of elf(5)
_ELF_HEADER = 64  # bytes
_NEEDED, _STRTAB, _RPATH, _RUNPATH = 1, 5, 15, 29  # tags of the dynamic section


def settle(moved: Mapping[str, str], libraries: Sequence[str]) -> None:
    """Find modules and shared objects of the host where they are now.

    :param moved: directories of modules whose place the image takes itself, and where they are shown instead.
    :param libraries: directories of the host's shared objects.
    """
    if moved:
        _move_modules(lambda path: _move(path, moved))
    loader = Libraries(libraries)
    with suppress(OSError):
        # Loaded by glibc itself, when a thread is cancelled; without it the process is aborted (pthread_exit(3)).
        loader.load("libgcc_s.so.1")
    create = ExtensionFileLoader.create_module

    def create_module(self: ExtensionFileLoader, spec: ModuleSpec) -> ModuleType:
        if spec.origin:
            loader.prepare(spec.origin)
        return create(self, spec)

    ExtensionFileLoader.create_module = create_module  # type: ignore[method-assign]


def _move(path: str, moved: Mapping[str, str]) -> str:
    for old, new in moved.items():
        if path == old or path.startswith(f"{old}/"):
            return new + path[len(old) :]
    return path


def _move_modules(new: Callable[[str], str]) -> None:
    """Have modules that come later, and source lines of those that are there, found at their new place."""
    sys.path[:] = [new(path) for path in sys.path]
    sys.path_importer_cache.clear()
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", {})
        if isinstance(paths := names.get("__path__"), list):
            paths[:] = [new(path) if isinstance(path, str) else path for path in paths]
        for owner, name in ((module, "__file__"), (names.get("__spec__"), "origin"), (names.get("__loader__"), "path")):
            if isinstance(path := getattr(owner, name, None), str):
                with suppress(AttributeError):  # of a loader that computes it
                    setattr(owner, name, new(path))
    update: Any = linecache.updatecache

    def updatecache(filename: str, module_globals: dict[str, Any] | None = None) -> Any:
        """Code objects keep the name of their file, under which the image may have another."""
        lines = update(new(filename), module_globals)
        if new(filename) in linecache.cache:
            linecache.cache[filename] = linecache.cache[new(filename)]
        return lines

    linecache.updatecache = updatecache


class Libraries:
    """Loads shared objects of the host by name, with all that they need."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = folders
        self._kept: list[object] = []  #: handles: one that is collected would be unloaded
        self._seen: set[str] = set()

    def prepare(self, path: str) -> None:
        """Load what the shared object at ``path`` needs, but not itself."""
        with suppress(OSError, ValueError, struct.error):  # the import of the module will say what is wrong with it
            needed, own = dynamic(path)
            for name in needed:
                self.load(name, own)

    def load(self, name: str, own: Sequence[str] = ()) -> None:
        """Load ``name`` if it is not loaded. :param own: directories that the linker will look in by itself."""
        if name in self._seen or native.library_loaded(name):
            return
        self._seen.add(name)
        for folder in (*own, *self._folders):
            path = os.path.join(folder, name)
            if files.exists(path):
                self.prepare(path)
                self._kept.append(native.library(path))
                return


def dynamic(path: str) -> tuple[list[str], list[str]]:
    """What an ELF file needs: names of shared objects, and directories of its own to look for them in.

    :raises ValueError: it is no ELF file of this machine's byte order. :raises OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read()
    if len(data) < _ELF_HEADER or data[:6] != _ELF:
        raise ValueError(path)
    tags = list(_tags(data))
    start = _start_of_names(data, tags)

    def text(index: int) -> str:
        return calls.fsdecode(data[start + index : data.index(b"\0", start + index)])

    folders = [folder for tag, value in tags if tag in (_RPATH, _RUNPATH) for folder in text(value).split(":")]
    origin = os.path.dirname(path)
    own = [folder.replace("$ORIGIN", origin).replace("${ORIGIN}", origin) for folder in folders if folder]
    return [text(value) for tag, value in tags if tag == _NEEDED], own


def _start_of_names(data: bytes, tags: Iterable[tuple[int, int]]) -> int:
    for tag, table in tags:
        for address, offset, size in _segments(data):
            if tag == _STRTAB and 0 <= table - address < size:
                return table - address + offset
    raise ValueError("no names: it is linked statically, or damaged")


def _headers(data: bytes) -> Iterator[tuple[int, ...]]:
    """Program headers: kind, offset in the file, address, size in the file."""
    offset, size, number = *struct.unpack_from("=Q", data, 32), *struct.unpack_from("=HH", data, 54)
    if offset > len(data):  # beyond what unpack_from() takes, perhaps
        raise ValueError(offset)
    for index in range(number):
        kind, _, where, address, _, length = struct.unpack_from("=IIQQQQ", data, offset + index * size)
        yield kind, where, address, length


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    return ((address, where, length) for kind, where, address, length in _headers(data) if kind == _LOAD)


def _tags(data: bytes) -> Iterator[tuple[int, int]]:
    for kind, where, _, length in _headers(data):
        if kind == _DYNAMIC:
            yield from struct.iter_unpack("=QQ", data[where : where + length - length % 16])
