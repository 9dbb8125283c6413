"""Builds the C core in other ways than an installation does, and runs tests with it, all in a temporary copy.

sanitizers  with gcc's for addresses and undefined behaviour: _core, _atfork, the builder; and tests that use them
valgrind    parts by themselves (tests/native/check.c) under its memory checker
aarch64     all of it for another machine, warnings as errors, and the parts by themselves under qemu-user

usage: sanitize.py [PART...]    with the Python that has the package's dependencies and its tests'

A part that this machine has no tools for is named, and is a failure where ISOLATE_MUST has its name.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
NATIVE = Path("pytest_isolate/linux/_native")
STRICT = ("-std=gnu11", "-D_GNU_SOURCE", "-g", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE}")
SANITIZERS = ("-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
PYTHON = (f"-I{sysconfig.get_path('include')}", "-DPy_LIMITED_API=0x030a0000", "-fPIC")
GENERATED = ("-Wno-unused-parameter", "-Wno-missing-field-initializers")  # what cffi writes leaves some unused
#: What goes through the C core: the builder and init, the fork and its handlers, the list of changes, immortal objects.
TESTS = (
    "tests/unit/sandbox/test_builder.py",
    "tests/unit/sandbox/test_changed_files.py",
    "tests/unit/sandbox/test_helper_process.py",
    "tests/unit/session/test_huge_pages.py",
    "tests/unit/session/test_immortal_heap.py",
    "tests/unit/session/test_immortal_heap_search.py",
    "tests/kernel/rootfs/test_changes.py",
)
COPIED = ("pytest_isolate", "tests", "docs", "examples", "fixtures_images", "pyproject.toml", "MANIFEST.in", "setup.py")


def _listed(name: str, file: str | Path) -> list[str]:
    """The C files in the tuple of that name, as setup.py and build_core.py have it."""
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return [str(NATIVE / each) for each in ast.literal_eval(node.value)]
    raise LookupError(name)


BUILDER = _listed("_SOURCES", "setup.py")
CORE = _listed("SOURCES", NATIVE / "build_core.py")
ATFORK = [str(NATIVE / name) for name in ("arenas.c", "atfork.c")]
PARTS_ALONE = [str(NATIVE / f"{name}.c") for name in ("plan_decode", "files", "remove_tree", "changed_files")]
CHECK = ["tests/native/check.c", *PARTS_ALONE, *(str(NATIVE / f"{name}.c") for name in ("seccomp", "landlock"))]


def _run(folder: Path, *command: str, env: Mapping[str, str] | None = None) -> bool:
    print("+", " ".join(command)[:200], flush=True)
    return (
        subprocess.run(command, cwd=folder, check=False, env=None if env is None else {**os.environ, **env}).returncode
        == 0
    )


def _write_core(folder: Path) -> str:
    """What cffi makes of the header; its path."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import build_core; build_core.ffibuilder.emit_c_code('core.c')"
    subprocess.run([sys.executable, "-c", code, str(NATIVE)], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return "core.c"


def _write_plans(folder: Path) -> list[str]:
    """Files with Plans in them."""
    code = (
        "from tests.fuzz.native_plan import _seeds\n"
        "for number, plan in enumerate(_seeds()): open(f'plan{number}', 'wb').write(plan)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    return [str(path) for path in sorted(folder.glob("plan[01]"))]


def sanitizers(folder: Path) -> bool:
    """Build all three in place, and run tests: what a sanitizer finds ends the process, and is in a log besides."""
    gcc = ("gcc", *STRICT, *SANITIZERS)
    plans = _write_plans(folder)  # by a Python that need not load what is built
    core = _write_core(folder)
    built = (
        _run(folder, *gcc, "-o", str(NATIVE / "builder"), *BUILDER)
        and _run(folder, *gcc, *PYTHON, "-shared", "-o", str(NATIVE / "_atfork.abi3.so"), *ATFORK)
        and _run(folder, *gcc, *PYTHON, *GENERATED, "-shared", "-o", str(NATIVE / "_core.abi3.so"), core, *CORE)
    )
    (folder / "empty").mkdir()
    built = (
        built and _run(folder, *gcc, "-o", "check", *CHECK) and _run(folder, "./check", str(folder / "empty"), *plans)
    )
    libraries = [subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip()
                 for name in ("libasan.so", "libubsan.so")]  # fmt: skip
    log = folder / "sanitizer"
    env = {
        "LD_PRELOAD": " ".join(libraries),  # before Python, which is not built with them
        "ASAN_OPTIONS": f"detect_leaks=0:allocator_may_return_null=1:log_path={log}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={log}",
        "PYTHONMALLOC": "malloc",  # else Python's small objects lie beside one another, and nothing is noticed
        "PYTHONPATH": str(folder),
    }
    passed = built and _run(folder, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, env=env)
    found = sorted(folder.glob("sanitizer.*"))
    for path in found:
        print(path.read_text("utf-8", "replace"))
    return passed and not found


def valgrind(folder: Path) -> bool:
    """Check the parts by themselves."""
    (folder / "empty").mkdir()
    return _run(folder, "gcc", *STRICT, "-O1", "-o", "check", *CHECK) and _run(
        folder, "valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "--track-fds=no",
        "./check", str(folder / "empty"), *_write_plans(folder),
    )  # fmt: skip


def aarch64(folder: Path) -> bool:
    """Compile all; run what needs neither namespaces nor Python, which qemu-user and this machine lack for it."""
    (folder / "other").mkdir()
    gcc = ("aarch64-linux-gnu-gcc", *STRICT, "-O2")
    program = ("-static", "-o", "builder-aarch64", *BUILDER)
    modules = (*PYTHON, *GENERATED, "-c", _write_core(folder), *CORE, *ATFORK)
    return (
        _run(folder, *gcc, *program)
        and _run(folder, *gcc, *modules)
        and _run(folder, *gcc, "-static", "-o", "check-aarch64", *CHECK)
        and _run(folder, QEMU, "./check-aarch64", str(folder / "other"), *_write_plans(folder))
    )


QEMU = next((name for name in ("qemu-aarch64-static", "qemu-aarch64") if shutil.which(name)), "qemu-aarch64-static")
PARTS: Mapping[str, tuple[Callable[[Path], bool], tuple[str, ...]]] = {
    "sanitizers": (sanitizers, ("gcc",)),
    "valgrind": (valgrind, ("gcc", "valgrind")),
    "aarch64": (aarch64, ("aarch64-linux-gnu-gcc", QEMU)),
}


def main(names: list[str]) -> int:
    """Run the parts. :return: exit status."""
    must = os.environ.get("ISOLATE_MUST", "").split(",")
    well = True
    for name in names or PARTS:
        part, tools = PARTS[name]
        if missing := [tool for tool in tools if shutil.which(tool) is None]:
            print(f"{name}: SKIPPED, as there is no {', '.join(missing)}", flush=True)
            well &= not {name, "all"} & {*must}
            continue
        with tempfile.TemporaryDirectory(prefix="isolate-sanitize-") as folder:
            for each in COPIED:
                source = ROOT / each
                ignored = shutil.ignore_patterns("__pycache__", "*.so", "builder")
                copy = shutil.copy if source.is_file() else lambda a, b: shutil.copytree(a, b, ignore=ignored)  # noqa: B023
                copy(source, Path(folder, each))
            done = part(Path(folder))
            print(f"{name}: {'well' if done else 'FAILED'}", flush=True)
            well &= done
    return not well


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
