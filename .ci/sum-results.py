"""Sums up a run of .ci/run: why tests were skipped where, each part's time, and the totals as the last line.

usage: sum-results.py FOLDER, which holds NAME.part (status and seconds of a part) and junit files of the tests; those
of a second look at what failed are called NAME-again.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

AGAIN = "-again"


@dataclass
class Part:
    """Outcomes of one junit file: tests by name, and why tests were skipped."""

    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    skipped: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def outcomes(junit: Path) -> Part:
    """What the file tells."""
    part = Part()
    for case in ET.parse(junit).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        kinds = {child.tag for child in case}
        skipped = case.find("skipped")
        if kinds & {"failure", "error"}:
            part.failed.add(name)
        elif skipped is not None and skipped.get("type") != "pytest.xfail":
            part.skipped += 1
            part.reasons[(skipped.get("message") or "").partition("\n")[0][:150]] += 1
        else:
            part.passed.add(name)
    part.passed -= part.failed  # a test that passed may have failed in its tear-down, which is a case of its own
    return part


def main(folder: Path) -> int:
    """Print the sums. :return: exit status."""
    tests = {junit.stem: outcomes(junit) for junit in sorted(folder.rglob("*.xml"))}
    statuses = {part.stem: part.read_text().split() for part in sorted(folder.glob("*.part"))}
    total: Counter[str] = Counter()
    second: list[str] = []  # tests that passed at the second look
    for stem, part in tests.items():
        if stem.endswith(AGAIN):
            continue
        passed_then = part.failed & tests.get(stem + AGAIN, Part()).passed
        part.failed -= passed_then
        part.passed |= passed_then
        second += [f"{stem}: {name}" for name in sorted(passed_then)]
        total.update(passed=len(part.passed), failed=len(part.failed), skipped=part.skipped)
        print(f"{stem:28} {len(part.passed):5} passed {len(part.failed):5} failed {part.skipped:5} skipped")
        for reason, number in part.reasons.most_common():
            print(f"    {number:4} skipped: {reason}")
    failing = [stem for stem, part in tests.items() if part.failed]
    for stem, (status, seconds) in statuses.items():
        # A part ends with status 1 for tests that failed; if all of them passed at the second look, it is well.
        mended = status == "1" and statuses.get(stem + AGAIN, [""])[0] == "0" and not tests[stem].failed
        print(f"{stem:28} {'ok' if status == '0' or mended else f'FAILED ({status})':12} {seconds:>5} s")
        if status == "0":
            total["passed"] += not stem.startswith("versions") and stem not in tests
        elif not mended and not any(name.startswith(stem) for name in failing):
            total["failed"] += 1  # else its failures have been counted, test by test
    for name in second:
        print(f"!!!!! failed, and passed when it was run again alone: {name}")
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
