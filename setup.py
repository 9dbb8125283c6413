"""Builds the C core: a module for pytest's process (cffi, stable ABI) and the builder, a program of its own.

All that is data is in pyproject.toml. Elsewhere than on Linux nothing is compiled: the plugin loads, and says that
the host is unsupported.

The same sources, compiler and Python make the same wheel, byte for byte, in whatever folder, at whatever time and with
whatever umask: `.ci/same-wheel` shows it.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

if sys.platform == "linux" and sysconfig.get_config_var("Py_GIL_DISABLED"):  # setuptools' own words are of its options
    sys.exit(
        "pytest-isolate-ns cannot be built for a free-threaded CPython: it is compiled for the stable ABI, which that\n"
        "one does not have, and works with reference counts as they are with the GIL.\n"
        "Make the environment with a CPython that has the GIL (python3.14, not python3.14t)."
    )

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import LinkError, PlatformError

NATIVE = Path("pytest_isolate", "linux", "_native")
_SOURCES = (
    "builder.c",
    "cgroup_dirs.c",
    "enter.c",
    "files.c",
    "init.c",
    "landlock.c",
    "launch.c",
    "operations.c",
    "pasta.c",
    "plan_decode.c",
    "remove_tree.c",
    "retry.c",
    "sandbox.c",
    "seccomp.c",
    "start.c",
)
BUILDER_SOURCES = [str(NATIVE / name) for name in _SOURCES]
#: Loaded at each start of pytest, so it is small: without cffi, whose import takes longer than all else.
ATFORK = Extension(
    "pytest_isolate.linux._native._atfork",
    [str(NATIVE / "arenas.c"), str(NATIVE / "atfork.c")],
    depends=[str(NATIVE / "arenas.h"), str(NATIVE / "atfork.h")],
    define_macros=[("Py_LIMITED_API", "0x030a0000"), ("_GNU_SOURCE", "1")],
    extra_compile_args=["-O2", "-Wall", "-Wextra", "-std=gnu11", "-fstack-protector-strong"],
    extra_link_args=["-Wl,-z,relro,-z,now"],  # a symbol that a child is the first to use would be looked up in each
    py_limited_api=True,
)
#: Debug information names the folder that the wheel was built in. Editable installations keep theirs.
STRIP = "-Wl,--strip-all"
#: For the times of files in a wheel; the first that a zip archive can have. Whoever sets the variable wins.
FIRST_TIME = "315532800"
BUILDER_FLAGS = ["-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE", "-std=gnu11", "-fstack-protector-strong"]


class BuildPython(build_py):
    """Puts the users' pages into the package, for `python -m pytest_isolate docs`."""

    def run(self) -> None:
        """Called for a wheel and for an editable installation."""
        super().run()
        for page, target in self._pages():
            target.parent.mkdir(exist_ok=True)
            self.copy_file(str(page), str(target))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:  # noqa: FBT001, FBT002 - setuptools' own
        """What was built, for installers that ask."""
        return [*super().get_outputs(include_bytecode), *(str(target) for _, target in self._pages())]

    def _pages(self) -> list[tuple[Path, Path]]:
        if self.editable_mode:  # which finds them in the repository
            return []
        folder = Path(self.build_lib, "pytest_isolate", "docs")
        return [(page, folder / page.name) for page in sorted(Path("docs").glob("*.md"))]


class BuildNative(build_ext):
    """Builds the module as usual and the program beside it, with the same compiler."""

    def run(self) -> None:
        """Called before setuptools puts ``inplace`` aside."""
        self.link_flags = [] if self.inplace else [STRIP]
        super().run()

    def build_extensions(self) -> None:
        """Called once the compiler is known, in every way of building: wheel, editable, ``--inplace``."""
        self._check_tools()
        for extension in self.extensions:
            extension.extra_link_args += self.link_flags
        # pyenv's Pythons have their own folder there, which is nobody else's.
        self.compiler.linker_so = [word for word in self.compiler.linker_so if not word.startswith("-Wl,-rpath")]
        super().build_extensions()
        objects = self.compiler.compile(
            BUILDER_SOURCES,
            output_dir=self.build_temp,
            extra_postargs=BUILDER_FLAGS,
            depends=[str(header) for header in NATIVE.glob("*.h")],
        )
        self._link(objects)

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

    def _link(self, objects: list[str]) -> None:
        """Static where the C library is there for that: PID 1 of each sandbox is a clone, with less to copy then."""
        program = self._program()
        flags = ["-Wl,-z,relro,-z,now", *self.link_flags]
        for how in (["-static-pie"], []):
            try:
                self.compiler.link_executable(
                    objects, program.name, output_dir=str(program.parent), extra_postargs=[*how, *flags]
                )
            except LinkError:
                if not how:
                    raise
            else:
                return

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


class Wheel(bdist_wheel):
    """Files in the wheel can be read, and programs run, by all, whatever the modes of the sources are."""

    def egg2dist(self, egginfo_path: str, distinfo_path: str) -> None:
        """Called when all files are in place, and before they are packed."""
        super().egg2dist(egginfo_path, distinfo_path)
        for path in Path(self.bdist_dir).rglob("*"):
            if path.is_file():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


if sys.platform == "linux":
    os.environ.setdefault("SOURCE_DATE_EPOCH", FIRST_TIME)
    os.umask(0o022)  # others run what is built
    setup(
        cffi_modules=[f"{NATIVE}/build_core.py:ffibuilder"],
        ext_modules=[ATFORK],
        cmdclass={"bdist_wheel": Wheel, "build_ext": BuildNative, "build_py": BuildPython},
        options={"bdist_wheel": {"py_limited_api": "cp310"}},
    )
else:
    setup(cmdclass={"build_py": BuildPython})
