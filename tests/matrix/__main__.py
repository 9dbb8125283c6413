"""Runs each case of ``tests/cases`` in each place, and prints a table: ``python -m tests.matrix``.

Needs root. A machine with another kernel sees the files of this one: none may change meanwhile. What a place has
written is kept in ``--results``, and such a place is not run again. The exit status is 1 if anything is not green.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.cases.catalogue import CASES, LAYOUTS
from tests.matrix import table
from tests.matrix.places import Place, places

_REPOSITORY = Path(__file__).parents[2]
_PAGE = _REPOSITORY / "docs" / "matrix.md"
#: What the table stands below on that page.
_HEADING = "## The table\n\n"
_MAPS = Path("/proc/sys/vm/max_map_count")


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    chosen = [place for place in places() if any(word in place.name for word in given.k or [""])]
    cases = [replace(case, tests=()) for case in CASES if case.inside] if given.own else list(CASES)
    if given.list or not chosen:
        print("\n".join([*(place.name for place in chosen), *(case.name for case in cases)]))
        return not chosen
    os.environ["ISOLATE_LAYOUTS"] = ",".join(LAYOUTS)
    tests = sorted({f"tests/{test}" for case in cases for test in case.tests} | {"tests/cases"})
    results = Path(given.results).resolve()
    with _many_mappings():
        files = {place.name: _run(place, tests, results / place.name / "results.xml") for place in chosen}
    found = {name: table.read(file) if file.exists() else {} for name, file in files.items()}
    cells = {(case.name, name): table.cell(case, results) for case in cases for name, results in found.items()}
    text = table.markdown(cases, chosen, cells)
    print(text)
    if given.save:
        _PAGE.write_text(_PAGE.read_text().partition(_HEADING)[0] + _HEADING + text)
    bad = [f"{case} on {place}" for (case, place), cell in cells.items() if not cell.is_green]
    print(f"{len(cells) - len(bad)} of {len(cells)} green" + "".join(f"\nNOT green: {each}" for each in bad))
    return bool(bad)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-k", metavar="WORD", action="append", help="only places with this in their name")
    parser.add_argument("--own", action="store_true", help="only what runs in tests/cases itself")
    parser.add_argument("--list", action="store_true", help="show the names of places and cases, and run nothing")
    parser.add_argument("--results", default=".matrix", metavar="FOLDER", help="what the places have written; .matrix")
    parser.add_argument("--save", action="store_true", help="write the table to docs/matrix.md")
    return parser


def _run(place: Place, tests: Sequence[str], results: Path) -> Path:
    """Run there, unless it has been done."""
    if not results.exists():
        results.parent.mkdir(parents=True, exist_ok=True)
        results.parent.chmod(0o777)  # a user writes his there too
        print(f"{place.name} ...", file=sys.stderr, flush=True)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        # Beside the folder: at its end a machine puts what it has seen of the folder there, and that was empty.
        with results.parent.with_name(f"{place.name}.output").open("wb") as output:
            subprocess.run(
                place.command(tests, results),
                cwd=_REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
    return results


@contextmanager
def _many_mappings() -> Iterator[None]:
    """A guest of User Mode Linux takes one mapping of its host process for each page (see .ci/run)."""
    before = _MAPS.read_text()
    if int(before) < 1 << 20:
        _MAPS.write_text(str(1 << 20))
    try:
        yield
    finally:
        if int(before) < 1 << 20:
            _MAPS.write_text(before)


if __name__ == "__main__":
    sys.exit(main())
