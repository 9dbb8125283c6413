"""Checks what no test of an installed package can see: that one wheel serves every Python, and what is in it.

usage: check_wheel.py WHEEL
"""

from __future__ import annotations

import sys
from pathlib import PurePath
from zipfile import ZipFile

NATIVE = "pytest_isolate/_native"


def problems(wheel: str) -> list[str]:
    """Sentences; none if all is well."""
    found = []
    if "-cp310-abi3-linux_" not in wheel:
        found.append("the name does not promise the stable ABI of Python 3.10")
    with ZipFile(wheel) as archive:
        modes = {entry.filename: entry.external_attr >> 16 & 0o7777 for entry in archive.infolist()}
    if modes.get(f"{NATIVE}/builder") != 0o755:
        found.append(f"{NATIVE}/builder is missing or not executable for all")
    needed = {f"{NATIVE}/_core.abi3.so", "pytest_isolate/py.typed"}
    found += [f"{name} is missing" for name in sorted(needed - modes.keys())]
    found += [f"{name} does not belong there" for name in modes if PurePath(name).suffix in {".c", ".h", ".o"}]
    found += [f"{name} does not belong there" for name in modes if not name.startswith("pytest_isolate")]
    return found


if __name__ == "__main__":
    failed = problems(sys.argv[1])
    print(*(f"{sys.argv[1]}: {problem}" for problem in failed or ["as it should be"]), sep="\n")
    sys.exit(bool(failed))
