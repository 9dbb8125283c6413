"""Fuzzes the parsers, all at once, each in a process of its own: ``python -m tests.fuzz [PARSER...] [--minutes N]``.

A parser reads what somebody else wrote: a user, a test that may have forged it, the kernel, the maker of an image. With
atheris installed (pip install atheris) inputs are made by what code they reach. What is found is shown with its input.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.engine import kept
from tests.fuzz.parsers import PARSERS

_MORE_SECONDS = 600  # for a machine that is busy, beyond the time that was asked for


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parser", nargs="*", help=f"which; all without. There are {', '.join(PARSERS)}")
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (default: 20)")
    given = parser.parse_args(arguments)
    if unknown := {*given.parser} - {*PARSERS}:
        parser.error(f"there is no parser {', '.join(sorted(unknown))}; there are {', '.join(PARSERS)}")
    chosen, seconds = given.parser or [*PARSERS], given.minutes * 60
    with tempfile.TemporaryDirectory(prefix="isolate-fuzz-") as folder:
        running = [(name, _start(name, seconds, Path(folder))) for name in chosen]
        print(
            f"{len(chosen)} parsers, {given.minutes:g} minutes\n\n| parser | inputs | found |\n|---|---|---|",
            flush=True,
        )
        try:
            found = [name for name, process in running if not _show(name, process, Path(folder), seconds)]
        finally:
            for _, process in running:
                process.kill()
    return bool(found)


def _start(name: str, seconds: float, folder: Path) -> subprocess.Popen[bytes]:
    command = ["nice", "-n", "19", sys.executable, "-m", "tests.fuzz.engine", name, str(seconds), str(folder)]
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _show(name: str, process: subprocess.Popen[bytes], folder: Path, seconds: float) -> bool:
    """Wait for its end, and print a line of the table. Whether nothing was found."""
    hangs = False
    try:
        process.wait(seconds + _MORE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        hangs = True
    log = (folder / f"{name}.log").read_text("utf-8", "replace")
    runs = re.findall(r"Done (\d+) runs", log)
    well = process.returncode == 0 and bool(runs) and not hangs
    print(f"| {name} | {runs[0] if runs else '?'} | {'nothing' if well else '**something**'} |", flush=True)
    if not well:
        last = folder / f"{name}.input"
        print(f"{'It hangs. ' if hangs else ''}The input was {kept(last) if last.exists() else None!r}\n{log[-6000:]}")
    return well


if __name__ == "__main__":
    sys.exit(main())
