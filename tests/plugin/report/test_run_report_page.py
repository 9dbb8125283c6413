"""The page of a large run in a browser: it sorts, filters, and opens a test."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_isolate.plugin.report.run_report import data, page

pytestmark = [pytest.mark.needs("selenium", "chromium", "chromedriver"), pytest.mark.timeout(200)]
_TESTS = 2000


def document() -> dict[str, Any]:
    """Every hundredth test failed; the memory of the others grows."""
    run = {
        "started": 0.0, "seconds": 20.0, "exit_status": 1, "arguments": [], "folder": "/", "python": "3", "pytest": "9",
        "isolate": "1", "system": "Linux",
    }  # fmt: skip
    found = data.document(run, [], [])
    limits = {"memory": 1 << 30}
    usage = {"wall_seconds": 1.0, "cpu_seconds": 0.5, "pids_peak": 1, "read_bytes": 0, "write_bytes": 0}
    box: dict[str, Any] = {
        "network": "none",
        "image": None,
        "failure": None,
        "degraded": {},
        "leaks": [],
        "changes": [],
    }
    for number in range(_TESTS):
        own = {"memory_peak_bytes": (number * 7919 % _TESTS + 1) << 16, "files_changed": 0}
        failed = number % 100 == 0
        found["tests"].append(
            {
                "id": f"tests/test_{number % 10}.py::test_{number}", "outcome": "failed" if failed else "passed",
                "worker": f"gw{number % 2}", "attempts": 1, "started": number / 100, "seconds": 0.01,
                "phases": {"setup": 0.002, "call": 0.008}, "text": "E  why it failed" if failed else None,
                "output": {}, "sandbox": None if number == 1 else box | {"limits": limits, "usage": usage | own},
            }
        )  # fmt: skip
    found["totals"] |= {"failed": _TESTS // 100, "passed": _TESTS - _TESTS // 100}
    return found


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    from selenium import webdriver  # noqa: PLC0415 - not everywhere

    (tmp_path / "run.html").write_text(page.render(document()))
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for option in ("--headless=new", "--no-sandbox", "--window-size=1200,900"):
        options.add_argument(option)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options=options, service=service) as driver:
        driver.get((tmp_path / "run.html").as_uri())
        yield driver


def shown(browser: Any) -> list[str]:
    script = "return [...document.querySelectorAll('tbody tr')].map(row => row.cells[1].dataset.v)"
    names: list[str] = browser.execute_script(script)
    return [name.rpartition("_")[2] for name in names]


def test_the_table_sorts_filters_and_opens_what_the_time_line_leads_to(browser: Any) -> None:
    def head(name: str) -> Any:
        return next(each for each in browser.find_elements("css selector", "th button") if each.text == name)

    assert shown(browser)[:3] == ["0", "100", "200"]  # those that failed

    start = time.monotonic()
    head("memory").click()
    assert time.monotonic() - start < 10
    largest = max(range(_TESTS), key=lambda number: number * 7919 % _TESTS)
    assert shown(browser)[0] == str(largest)
    more = browser.find_element("css selector", "table + button")
    while more.is_displayed():
        more.click()
    assert len(shown(browser)) == _TESTS
    assert shown(browser)[-1] == "1"  # has no figure
    head("memory").click()
    assert shown(browser)[0] == "0"
    assert browser.find_element("css selector", "th[aria-sort]").get_attribute("aria-sort") == "ascending"

    words = browser.find_element("name", "words")
    words.send_keys("test_3.py gw1")
    assert len(shown(browser)) == _TESTS // 10
    browser.find_element("css selector", "input[value=passed]").click()
    assert shown(browser) == []
    assert browser.find_element("id", "count").text == f"0 of {_TESTS} tests"

    browser.execute_script("location.hash = '#t300'")
    row = browser.find_element("id", "t300")
    assert "E  why it failed" in row.find_element("tag name", "pre").text
    assert row.is_displayed()
    assert not browser.get_log("browser")
