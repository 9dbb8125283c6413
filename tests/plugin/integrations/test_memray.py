"""pytest-memray: its limits hold."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood


@pytest.mark.needs("sandbox", "pytest-memray")
def test_pytest_memray_limits_and_can_report(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_memray.plugin")
    neighbours.project.write(
        test_it="""
        import pytest

        @pytest.mark.limit_memory("20 MB")
        def test_under(): bytearray(5 << 20)
        @pytest.mark.limit_memory("20 MB")
        def test_over(): bytearray(50 << 20)
        """
    )
    (neighbours.path / "bin").mkdir()
    arguments = ["--memray", "--memray-bin-path=bin"]
    shown = "\n".join(neighbours.isolated(*arguments))
    assert "1 failed, 1 passed" in shown
    assert "Allocation results" not in shown  # as docs/neighbours.md says
    shown = "\n".join(neighbours.isolated(*arguments, "--isolate-writable=bin"))
    assert "Allocation results for test_it.py::test_under" in shown
