"""Declares the cffi module ``pytest_isolate._native._core``; setuptools runs it when the package is built."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path("pytest_isolate", "_native")  # relative, as setuptools wants sources to be

ffibuilder = FFI()
ffibuilder.cdef((HERE / "core_cdef.h").read_text())
ffibuilder.set_source(
    "pytest_isolate._native._core",
    '#include <stdint.h>\n#include "core_cdef.h"',
    sources=[str(HERE / "core.c"), str(HERE / "enter.c")],
    depends=[str(HERE / "core_cdef.h"), str(HERE / "enter.h")],
    include_dirs=[str(HERE)],
    # One wheel for every Python from 3.10 on. Left alone, cffi chooses a version older than the wheel's tag says.
    define_macros=[("Py_LIMITED_API", "0x030a0000"), ("_GNU_SOURCE", "1")],
    py_limited_api=True,
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
