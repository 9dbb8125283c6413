"""Environments to measure in, made where they are not there yet: one with this checkout, and one for each peer.

All are made of one interpreter, and in a folder that everybody can read, so that root and an unprivileged user run the
same programs. A peer gets the pytest that ours has or, where that does not work with it, an older one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.measure import CHECKOUT

_OLDER = ("pytest<9.2", "pytest<9", "pytest<8")


class CannotInstallError(Exception):
    """Says what, and pip's last words."""


class Environments:
    """Folders below ``cache``, which has one for each interpreter."""

    def __init__(self, cache: Path, python: str) -> None:
        os.umask(0o022)
        cache.mkdir(parents=True, exist_ok=True)
        if cache.stat().st_uid != os.getuid():  # programs that root runs are made there
            sys.exit(f"{cache} belongs to somebody else; --cache names another folder")
        cache.chmod(0o755)  # for the unprivileged user; a temporary folder is its owner's
        self.python = python
        self.cache = cache / f"python-{self.version()}"

    def version(self) -> str:
        """Of the interpreter."""
        return _say(self.python, "-V").removeprefix("Python ")

    def ours(self) -> Path:
        """The environment of this checkout."""
        source = self.cache / f"source-{_fingerprint()}"  # a copy, as building leaves its results beside the sources
        shutil.rmtree(source, ignore_errors=True)
        hidden = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "*.so", "builder")
        shutil.copytree(CHECKOUT, source, ignore=hidden)
        try:
            return self.make("ours", str(source), "pytest", "pytest-xdist")
        finally:
            shutil.rmtree(source)

    def of_peer(self, name: str) -> Iterator[Path]:
        """Environments with ever older versions of pytest, beginning with that of ours."""
        for number, pytest in enumerate((f"pytest=={versions(self.cache / 'ours')['pytest']}", *_OLDER)):
            yield self.make(f"{name}-{number}", name, pytest, "pytest-xdist")

    def make(self, name: str, *requirements: str) -> Path:
        """An environment that has them."""
        folder = self.cache / name
        stamp = folder / "made-of"
        wanted = "\n".join([_say(self.python, "-VV"), *requirements])
        if not stamp.exists() or stamp.read_text() != wanted:
            print(f"making {folder} ...", file=sys.stderr, flush=True)
            _say(self.python, "-m", "venv", "--clear", str(folder))
            pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input")
            _say(str(folder / "bin/python"), *pip, *requirements)
            stamp.write_text(wanted)
        return folder


def versions(folder: Path) -> dict[str, str]:
    """Of the distributions that it has, by name."""
    listed = json.loads(_say(str(folder / "bin/python"), "-m", "pip", "list", "--format=json"))
    return {one["name"].lower().replace("_", "-"): one["version"] for one in listed}


def first_that_works(candidates: Iterator[Path], works: Callable[[Path], str | None]) -> Path | str:
    """The first folder of which ``works`` says nothing, or what it said of the first one."""
    complaints = []
    try:
        for folder in candidates:
            if (complaint := works(folder)) is None:
                return folder
            complaints.append(complaint)
    except CannotInstallError as error:
        complaints.append(str(error))
    return complaints[0]


def _fingerprint() -> str:
    digest = hashlib.sha256()
    suffixes = {".py", ".c", ".h", ".toml"}
    inputs = [path for path in (CHECKOUT / "pytest_isolate").rglob("*") if path.suffix in suffixes]
    for path in sorted([*inputs, CHECKOUT / "setup.py", CHECKOUT / "pyproject.toml"]):
        if path.name != "_core.c":  # generated
            digest.update(f"{path.relative_to(CHECKOUT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _say(*command: str) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotInstallError(str(error)) from error
    if result.returncode:
        lines = (result.stdout + result.stderr).strip().splitlines() or [f"status {result.returncode}"]
        errors = [line for line in lines if "ERROR" in line]  # pip's last lines are often advice
        raise CannotInstallError(f"{' '.join(command[1:4])}: {(errors or lines)[-1].strip()}")
    return result.stdout.strip()
