"""flaky: its attempts are those of a plain run."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood


@pytest.mark.needs("sandbox", "flaky")
def test_failures_are_rerun_by_flaky(neighbours: Neighbourhood) -> None:
    neighbours.load("flaky.flaky_pytest_plugin")
    neighbours.project.write(
        test_it="""
        import pytest
        attempts = []

        @pytest.mark.flaky(max_runs=3)
        def test_third_time_lucky():
            attempts.append(1)
            assert len(attempts) == 3
        @pytest.mark.flaky(max_runs=2)
        def test_never(): assert 0
        """
    )
    assert "1 failed, 1 passed" in neighbours.same("-v", "--no-flaky-report")
