"""Sums up a run of .ci/run: why tests were skipped where, each part's time, and the totals as the last line.

usage: sum-results.py FOLDER, which holds NAME.part (status and seconds of a part) and junit files of the tests.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET


def outcomes(junit: Path) -> tuple[Counter[str], Counter[str]]:
    """How many tests passed, failed and were skipped; and why the latter."""
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for case in ET.parse(junit).iter("testcase"):
        kinds = {child.tag for child in case}
        skipped = case.find("skipped")
        if kinds & {"failure", "error"}:
            counts["failed"] += 1
        elif skipped is not None and skipped.get("type") != "pytest.xfail":
            counts["skipped"] += 1
            reasons[(skipped.get("message") or "").partition("\n")[0][:150]] += 1
        else:
            counts["passed"] += 1
    return counts, reasons


def main(folder: Path) -> int:
    """Print the sums. :return: exit status."""
    total: Counter[str] = Counter()
    failing: list[str] = []
    for junit in sorted(folder.rglob("*.xml")):
        counts, reasons = outcomes(junit)
        total += counts
        failing += [junit.stem] if counts["failed"] else []
        print(f"{junit.stem:28}", *(f"{counts[kind]:5} {kind}" for kind in ("passed", "failed", "skipped")))
        for reason, number in reasons.most_common():
            print(f"    {number:4} skipped: {reason}")
    counted = {junit.stem for junit in folder.rglob("*.xml")}  # test by test
    for part in sorted(folder.glob("*.part")):
        status, seconds = part.read_text().split()
        print(f"{part.stem:28} {'ok' if status == '0' else f'FAILED ({status})':12} {seconds:>5} s")
        if status == "0":
            total["passed"] += not part.stem.startswith("versions") and part.stem not in counted
        elif not any(stem.startswith(part.stem.partition("-here")[0].partition("-there")[0]) for stem in failing):
            # else its failures have been counted, test by test
            total["failed"] += 1
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
