"""Runs for hours what must hold for days: ``python -m tests.endurance [PART...]``.

kills  SIGKILL of pytest, builder, init, test, broker or worker, at random moments; afterwards nothing is left
jobs   many tests by two workers of pytest-xdist, and eight at a time
day    very many tests in one session
plain  as many without isolation, to compare
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.endurance import kills, many
from tests.endurance.machine import Machine

PARTS = ("kills", "jobs", "day", "plain")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.endurance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="*", help=f"which: {', '.join(PARTS)}; all without")
    parser.add_argument("--kills", type=int, default=500, help="how many processes to kill (default: 500)")
    parser.add_argument("--minutes", type=float, default=600, help="how long to kill at most (default: 600)")
    parser.add_argument("--jobs", type=int, default=10_000, help="how many tests in jobs (default: 10000)")
    parser.add_argument("--day", type=int, default=100_000, help="how many tests in day and plain (default: 100000)")
    given = parser.parse_args(arguments)
    if unknown := {*given.part} - {*PARTS}:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="endurance-") as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        machine = Machine(folder / "tmp")
        done = [_run(part, given, machine, folder) for part in given.part or PARTS]
    print(f"\n{'All is well' if all(done) else 'NOT all is well'}, after {time.monotonic() - started:.0f} s")
    return not all(done)


def _run(part: str, given: argparse.Namespace, machine: Machine, folder: Path) -> bool:
    print(f"\n===== {part}, as {'root' if os.geteuid() == 0 else 'a user'}", flush=True)
    match part:
        case "kills":
            return kills.run(given.kills, given.minutes, machine, folder / part)
        case "jobs":
            return many.run(given.jobs, machine, folder / "n2", "-n2") & many.run(
                given.jobs, machine, folder / "jobs8", "--isolate-jobs=8"
            )
        case "day":
            return many.run(given.day, machine, folder / part, "--isolate-jobs=1")
        case _:
            return many.run_plain(given.day, machine, folder / part)


if __name__ == "__main__":
    sys.exit(main())
