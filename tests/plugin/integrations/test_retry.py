"""pytest-retry: its attempts are those of a plain run."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood


@pytest.mark.needs("sandbox", "pytest-retry")
def test_failures_are_retried_by_pytest_retry(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_retry.retry_plugin")
    neighbours.project.write(
        test_it="""
        import pytest

        attempts = []
        @pytest.mark.flaky(retries=2)
        def test_second_time_lucky():
            attempts.append(1)
            assert len(attempts) == 2
        @pytest.mark.flaky(retries=1)
        def test_never(): assert 0
        def test_once(): pass
        """
    )
    shown = neighbours.same("-v")
    assert "passed on attempt 2!" in shown
    assert "1 failed, 2 passed, 2 retried" in shown
