"""Playwright: a browser of the session, which each sandbox starts for itself."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood

pytestmark = [pytest.mark.needs("sandbox", "pytest-playwright", "chromium"), pytest.mark.timeout(280)]

PAGES = """
import pytest

@pytest.mark.parametrize("title", ["one", "two"])
def test_title(page, title):
    page.set_content(f"<title>{title}</title>")
    assert page.title() == title
"""


@pytest.fixture
def pages(neighbours: Neighbourhood) -> Neighbourhood:
    neighbours.load("pytest_playwright.pytest_playwright")
    neighbours.project.options += ["-W", "ignore::pytest.PytestWarning"]  # of its own fixtures
    neighbours.project.write(
        conftest="""
        import shutil
        import pytest
        @pytest.fixture(scope="session")
        def browser_type_launch_args(browser_type_launch_args):
            found = shutil.which("chromium")
            return {**browser_type_launch_args, "executable_path": found, "args": ["--no-sandbox"]}
        """
    )
    return neighbours


def test_each_test_has_a_browser_without_naming_its_fixture(pages: Neighbourhood) -> None:
    pages.project.write(test_it=PAGES)
    assert "2 passed" in pages.same()


def test_screenshots_are_where_they_are_after_a_plain_run(pages: Neighbourhood) -> None:
    pages.project.write(test_it=PAGES)
    names = []
    for run in (pages.plain, pages.isolated):
        run("--screenshot=on")
        names.append(sorted(str(path.relative_to(pages.path)) for path in pages.path.glob("test-results/*/*")))
    assert names[0] == names[1]
    assert len(names[0]) == 2


def test_a_fixture_of_the_project_that_starts_playwright_is_known(neighbours: Neighbourhood) -> None:
    neighbours.project.write(
        test_it="""
        import shutil
        import pytest
        from playwright.sync_api import sync_playwright

        @pytest.fixture(scope="session")
        def window():
            with sync_playwright() as playwright:
                chromium = playwright.chromium
                window = chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                yield window
                window.close()

        @pytest.mark.parametrize("title", ["one", "two"])
        def test_title(window, title):
            page = window.new_page()
            page.set_content(f"<title>{title}</title>")
            assert page.title() == title
        """
    )
    assert "2 passed" in neighbours.same()
