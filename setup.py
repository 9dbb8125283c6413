"""Builds the C core: a module for pytest's process (cffi, stable ABI) and the builder, a program of its own.

All that is data is in pyproject.toml. Elsewhere than on Linux nothing is compiled: the plugin loads, and says that
the host is unsupported.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import PlatformError

NATIVE = Path("pytest_isolate", "_native")
BUILDER_SOURCES = [str(NATIVE / name) for name in ("builder.c", "enter.c", "init.c", "launch.c", "plan.c", "uplink.c")]
BUILDER_FLAGS = ["-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE", "-std=gnu11", "-fstack-protector-strong"]


class BuildNative(build_ext):
    """Builds the module as usual and the program beside it, with the same compiler."""

    def build_extensions(self) -> None:
        """Called once the compiler is known, in every way of building: wheel, editable, ``--inplace``."""
        self._check_tools()
        super().build_extensions()
        objects = self.compiler.compile(
            BUILDER_SOURCES,
            output_dir=self.build_temp,
            extra_postargs=BUILDER_FLAGS,
            depends=[str(header) for header in NATIVE.glob("*.h")],
        )
        program = self._program()
        self.compiler.link_executable(
            objects, program.name, output_dir=str(program.parent), extra_postargs=["-Wl,-z,relro,-z,now"]
        )
        program.chmod(0o755)  # whatever the umask: others run it too

    def copy_extensions_to_source(self) -> None:
        """For an editable installation, where the package is imported from this folder."""
        super().copy_extensions_to_source()
        self.copy_file(str(self._program()), str(NATIVE / "builder"))

    def get_outputs(self) -> list[str]:
        """What was built, for installers that ask."""
        return [*super().get_outputs(), str(self._program())]

    def get_output_mapping(self) -> dict[str, str]:
        """What was built, and where it stands in an editable installation."""
        mapping: dict[str, str] = super().get_output_mapping()
        if self.inplace:
            mapping[str(self._program())] = str(NATIVE / "builder")
        return mapping

    def _program(self) -> Path:
        return Path(self.build_lib) / NATIVE / "builder"

    def _check_tools(self) -> None:
        """Name the packages to install; setuptools only says ``command 'gcc' failed``."""
        compiler = self.compiler.compiler[0]
        missing = []
        if shutil.which(compiler) is None:
            missing.append((f"a C compiler ({compiler})", "gcc"))
        header = Path(sysconfig.get_path("include"), "Python.h")
        if not header.exists():
            missing.append((f"Python's headers ({header})", "python3-dev"))
        if missing:
            what = " and ".join(thing for thing, _ in missing)
            packages = " ".join(package for _, package in missing)
            raise PlatformError(
                f"pytest-isolate-ns needs {what} to be built. On Debian and Ubuntu: apt-get install {packages}\n"
                "(where pip finds no wheel of cffi for this Python, libffi-dev as well)"
            )


if sys.platform == "linux":
    setup(
        cffi_modules=[f"{NATIVE}/build_core.py:ffibuilder"],
        cmdclass={"build_ext": BuildNative},
        options={"bdist_wheel": {"py_limited_api": "cp310"}},
    )
else:
    setup()
