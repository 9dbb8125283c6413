"""pytest-rerunfailures: each attempt inside, after a death in a new sandbox."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood


@pytest.mark.needs("sandbox", "pytest-rerunfailures")
def test_failures_are_rerun_by_pytest_rerunfailures(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_rerunfailures")
    neighbours.project.write(
        test_it="""
        import pytest

        @pytest.fixture(scope="module")
        def wide():
            yield []
            print("torn down once")

        @pytest.fixture
        def narrow(request):
            yield
            print("torn down after attempt", request.node.execution_count)

        @pytest.mark.flaky(reruns=2)
        def test_third_time_lucky(request, wide, narrow):
            print("attempt", request.node.execution_count)
            assert request.node.execution_count == 3
        def test_never(wide): assert 0
        def test_once(wide): pass
        @pytest.fixture
        def broken(request): assert request.node.execution_count == 2
        def test_of_a_flaky_fixture(broken): pass
        """
    )
    shown = neighbours.same("-v", "-rR", "--reruns=1")
    assert "2 failed" not in shown
    assert "1 failed, 3 passed, 4 rerun" in shown


@pytest.mark.needs("sandbox", "pytest-rerunfailures")
def test_a_death_is_rerun_in_a_new_sandbox(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_rerunfailures")
    neighbours.project.write(
        test_it="""
        import os, pathlib, time
        import pytest

        @pytest.mark.flaky(reruns=2)
        @pytest.mark.isolate(writable="trace")
        def test_comes_to_life():
            trace = pathlib.Path("trace/attempts")
            attempts = trace.read_text() if trace.exists() else ""
            trace.write_text(attempts + "x")
            if len(attempts) < 2:  # the third follows an ordinary failure, in the same sandbox
                assert not pathlib.Path("left").exists()
            pathlib.Path("left").touch()
            if not attempts:
                os.abort()
            assert attempts == "xx"
        @pytest.mark.flaky(reruns=1)
        def test_stays_dead(): os.abort()
        @pytest.mark.flaky(reruns=3)
        @pytest.mark.xfail
        def test_is_expected_to_die(): os.abort()
        """
    )
    (neighbours.path / "trace").mkdir()
    result = neighbours.project.isolated("-v")
    result.stdout.fnmatch_lines(["*comes_to_life RERUN*"] * 2 + ["*comes_to_life PASSED*", "*dead RERUN*"])
    result.stdout.fnmatch_lines(["*killed by SIGABRT"])
    result.stdout.fnmatch_lines(["*1 failed, 1 passed, 1 xfailed, 3 rerun*"])
