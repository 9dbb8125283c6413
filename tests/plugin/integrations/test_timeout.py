"""pytest-timeout: its time-outs become those of sandboxes."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood


@pytest.mark.needs("sandbox", "pytest-timeout")
def test_the_timeout_of_pytest_timeout_becomes_the_sandboxs(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_timeout")
    neighbours.project.write(
        test_it="""
        import time
        import pytest

        @pytest.mark.timeout(0.5)
        def test_slow(): time.sleep(60)
        @pytest.mark.timeout(60)
        def test_quick(): pass
        """
    )
    result = neighbours.project.isolated()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*exceeded timeout=0.5 s*", "*in test_slow"])
