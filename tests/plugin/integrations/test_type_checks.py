"""pytest-mypy and pytest-mypy-testing: mypy runs once for all their items."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood

COUNT = """
    import mypy.api

    runs, run = [], mypy.api.run

    def counted(arguments):
        runs.append(arguments)
        return run(arguments)

    mypy.api.run = counted

    def pytest_terminal_summary(terminalreporter):
        terminalreporter.write_line(f"mypy ran {len(runs)} times")
"""


@pytest.mark.needs("sandbox", "pytest-mypy")
def test_pytest_mypy_runs_once_and_has_its_summary(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_mypy")
    neighbours.project.write(
        conftest=COUNT,
        test_it="""
        from other import number

        def test_untyped():
            text: str = number
        """,
        other="number: int = 'one'\n",
    )
    shown = neighbours.same("--mypy", "--mypy-report-style=mypy", "other.py")
    assert "By default the bodies of untyped functions are not checked" in shown  # in its summary alone
    assert "mypy ran 1 times" in shown
    assert "2 failed, 2 passed" in shown


@pytest.mark.needs("sandbox", "pytest-mypy-testing")
def test_pytest_mypy_testing_runs_once_for_a_file(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_mypy_testing.plugin")
    neighbours.project.write(
        conftest=COUNT,
        test_it="""
        import pytest

        @pytest.mark.mypy_testing
        def mypy_good() -> None:
            reveal_type(1)  # R: Literal[1]?

        @pytest.mark.mypy_testing
        def mypy_bad() -> None:
            text: str = "one"  # E: there is no such error
        """,
    )
    shown = neighbours.same()
    assert "mypy ran 1 times" in shown
    assert "1 failed, 1 passed" in shown
