"""Declares the cffi module ``pytest_isolate.linux._native._core``; setuptools runs it when the package is built."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path("pytest_isolate", "linux", "_native")  # relative, as setuptools wants sources to be
SOURCES = (
    "birth.c",
    "calls.c",
    "changed_files.c",
    "child_signal.c",
    "dump_signal.c",
    "enter.c",
    "fork.c",
    "huge_pages.c",
    "immortal.c",
    "landlock.c",
    "remove_tree.c",
    "seccomp.c",
    "stuck_fork.c",
    "text_pages.c",
)


def _declarations(header: str) -> str:
    """A header as cffi takes it, which has no preprocessor."""
    return "\n".join(line for line in header.splitlines() if not line.startswith("#"))


ffibuilder = FFI()
ffibuilder.cdef(_declarations((HERE / "core_api.h").read_text()))
ffibuilder.set_source(
    "pytest_isolate.linux._native._core",
    '#include "core_api.h"',
    sources=[str(HERE / name) for name in SOURCES],
    depends=[str(header) for header in HERE.glob("*.h")],
    include_dirs=[str(HERE)],
    # One wheel for every Python from 3.10 on. Left alone, cffi chooses a version older than the wheel's tag says.
    define_macros=[("Py_LIMITED_API", "0x030a0000"), ("_GNU_SOURCE", "1")],
    py_limited_api=True,
    extra_link_args=["-Wl,-z,relro,-z,now"],  # a symbol that a child is the first to use would be looked up in each
    # cffi's generated code leaves parameters and fields unused on purpose.
    extra_compile_args=[
        "-O2",
        "-Wall",
        "-Wextra",
        "-Wno-unused-parameter",
        "-Wno-missing-field-initializers",
        "-std=gnu11",
        "-fstack-protector-strong",
    ],
)
