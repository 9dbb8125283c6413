"""pytest-dependency: it knows how tests ended."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood


@pytest.mark.needs("sandbox", "pytest-dependency")
def test_pytest_dependency_knows_how_tests_ended(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_dependency")
    neighbours.project.write(
        test_it="""
        import pytest

        @pytest.mark.dependency
        def test_good(): pass
        @pytest.mark.dependency
        def test_bad(): assert 0
        @pytest.mark.dependency
        @pytest.mark.skip
        def test_skipped(): pass
        @pytest.fixture(scope="class")
        def wide():
            yield
            assert 0
        class TestTornDown:
            @pytest.mark.dependency(name="torn down")
            def test_passes(self, wide): pass
        @pytest.mark.dependency(depends=["test_good"])
        def test_run(): pass
        @pytest.mark.dependency(depends=["test_run", "test_bad"])
        def test_after_bad(): pass
        @pytest.mark.dependency(depends=["test_skipped"])
        def test_after_skipped(): pass
        @pytest.mark.dependency(depends=["torn down"])
        def test_after_a_failed_tear_down(): pass
        """
    )
    shown = neighbours.same("-rs")
    assert "1 failed, 3 passed, 4 skipped, 1 error" in shown
