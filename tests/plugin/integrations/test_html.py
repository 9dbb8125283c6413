"""pytest-html: the same rows, and what tests added to them."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.neighbourhood import OUTCOMES, Neighbourhood, without_times


@pytest.mark.needs("sandbox", "pytest-html")
def test_pytest_html_writes_the_same_rows_and_extras(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_metadata.plugin", "pytest_html.plugin", "pytest_html.fixtures")
    neighbours.project.write(
        conftest="""
        import pytest, pytest_html

        @pytest.hookimpl(hookwrapper=True)
        def pytest_runtest_makereport(item, call):
            report = (yield).get_result()
            if report.when == "call":
                report.extras = [*getattr(report, "extras", []), pytest_html.extras.text("told by " + item.name)]
        """,
        test_it=OUTCOMES.replace("not random.random()", "number == 1"),
    )
    pages = neighbours.files("page.html", "--html=page.html", "--self-contained-html")
    plain, isolated = (
        json.loads(re.findall(r'data-jsonblob="([^"]*)"', page)[0].replace("&#34;", '"').replace("&amp;", "&"))["tests"]
        for page in pages
    )
    assert without_times(isolated) == without_times(plain)
    assert str(isolated).count("'format_type': 'text'") == 5  # one of each call
