"""Takes each protection out of the code, one at a time, and shows which test notices: ``python -m tests.mutate``.

The checkout stays as it is: mutations are tried in a copy. A mutation that no longer applies, and one that no test
notices, make the exit status 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutate.mutation import Mutation
from tests.mutate.mutations import MUTATIONS
from tests.mutate.workbench import LONG, REPOSITORY, Run, Workbench


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    chosen = [mutation for mutation in MUTATIONS if any(word in mutation.name for word in given.k or [""])]
    stale = [problem for mutation in chosen for problem in _check(mutation)]
    if stale or given.list or not chosen:
        print("\n".join(stale or [mutation.name for mutation in chosen] or ["no mutation has such a name"]))
        return bool(stale or not chosen)
    with tempfile.TemporaryDirectory(prefix="isolate-mutate-") as folder:
        bench = Workbench(Path(given.folder or folder).resolve())
        bench.prepare()
        plain = bench.test(sorted({test for mutation in chosen for test in mutation.tests}), LONG)
        if plain.noticed:
            print(f"Nothing is shown by tests that are red without a mutation: {plain.red} {plain.trouble}")
            print(plain.output[-4000:])
            return 1
        missed = [mutation.name for mutation in chosen if not _try(bench, mutation)]
        bench.test(["tests/plugin/test_cleanup.py::test_an_ordinary_run_leaves_nothing"])  # sweeps what was left
    print(
        f"\n{len(chosen) - len(missed)} of {len(chosen)} noticed" + "".join(f"\nNOT noticed: {name}" for name in missed)
    )
    return bool(missed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-k", metavar="WORD", action="append", help="only protections with this in their name")
    parser.add_argument("--list", action="store_true", help="show their names, and try none")
    parser.add_argument("--folder", help="where to make the copy; what is there is used again")
    return parser


def _check(mutation: Mutation) -> list[str]:
    """What does not apply any more."""
    problems = []
    for edit in mutation.edits:
        try:
            edit.apply((REPOSITORY / edit.file).read_text())
        except (OSError, ValueError) as error:
            problems.append(f"{mutation.name}: {error}")
    return problems


def _try(bench: Workbench, mutation: Mutation) -> bool:
    """Show which tests notice; False if none does."""
    started = time.monotonic()
    with bench.mutated(mutation) as problem:
        run = Run((), 0, (), problem) if problem else bench.test(mutation.tests)
    seconds = time.monotonic() - started
    print(f"| {mutation.name} | {_words(run)} | {seconds:.0f} |", flush=True)
    if not run.noticed and run.passed:
        print(run.output[-1500:], file=sys.stderr)
    # Where all are skipped, this host cannot tell.
    return not problem and (run.noticed or not run.passed)


def _words(run: Run) -> str:
    if run.red:
        first = ", ".join(f"`{name}`" for name in run.red[:3])
        return first + (f" and {len(run.red) - 3} more" if len(run.red) > 3 else "")
    if run.trouble:
        return run.trouble
    return "**none**" if run.passed else f"not on this host: {'; '.join(run.skipped)}"


if __name__ == "__main__":
    sys.exit(main())
