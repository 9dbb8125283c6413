"""Checks what no test of an installed package can see: that one wheel serves every Python, and what is in it.

usage: check_wheel.py WHEEL...
"""

from __future__ import annotations

import re
import sys
from pathlib import Path, PurePath
from zipfile import ZipFile

NATIVE = "pytest_isolate/linux/_native"


def problems(wheel: str) -> list[str]:
    """Sentences; none if all is well."""
    found = []
    if not re.search(r"-cp310-abi3-(linux|manylinux|musllinux)_", wheel):
        found.append("the name does not promise the stable ABI of Python 3.10")
    with ZipFile(wheel) as archive:
        modes = {entry.filename: entry.external_attr >> 16 & 0o7777 for entry in archive.infolist()}
        native = {name: archive.read(name) for name in modes if name.startswith(f"{NATIVE}/")}
    if modes.get(f"{NATIVE}/builder") != 0o755:
        found.append(f"{NATIVE}/builder is missing or not executable for all")
    found += [
        f"{name} has debug information, which names the folder that it was built in"
        for name, content in native.items()
        if b".debug_info" in content
    ]
    needed = {f"{NATIVE}/_core.abi3.so", f"{NATIVE}/_atfork.abi3.so", "pytest_isolate/py.typed"}
    needed |= {f"pytest_isolate/plugin/report/run_report/page.{kind}" for kind in ("css", "js")}
    needed |= {f"pytest_isolate/docs/{page.name}" for page in Path("docs").glob("*.md")}
    found += [f"{name} is missing" for name in sorted(needed - modes.keys())]
    found += [f"{name} does not belong there" for name in modes if PurePath(name).suffix in {".c", ".h", ".o"}]
    found += [f"{name} does not belong there" for name in modes if not name.startswith("pytest_isolate")]
    return found


if __name__ == "__main__":
    failed = {wheel: problems(wheel) for wheel in sys.argv[1:]}
    for wheel, sentences in failed.items():
        print(*(f"{wheel}: {sentence}" for sentence in sentences or ["as it should be"]), sep="\n")
    sys.exit(any(failed.values()))
