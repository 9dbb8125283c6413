"""docs/neighbours.md is the table of what was found; each plugin has a file here."""

from __future__ import annotations

import re
from pathlib import Path


def test_the_table_names_all_that_are_tested_here() -> None:
    table = Path(__file__).parents[3].joinpath("docs", "neighbours.md").read_text()
    names = r"pytest-[a-z-]+|flaky|syrupy|allure-pytest"
    tested = set(
        re.findall(f'"({names})"', "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py")))
    )
    assert tested == set(re.findall(rf"^\| ({names})\b", table, re.MULTILINE))
