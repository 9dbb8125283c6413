"""pytest-rerunfailures: each attempt inside, after a death in a new sandbox."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.support.neighbourhood import Neighbourhood
from tests.support.project import TWO_SLOW_TESTS


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


@pytest.mark.needs("sandbox", "pytest-rerunfailures")
def test_reruns_of_all_tests_are_counted_together(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_rerunfailures")
    neighbours.project.write(
        test_it="""
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_never(number): assert 0
        """
    )
    shown = neighbours.same("--reruns=2", "--max-suite-reruns=3")
    assert "4 failed, 3 rerun" in shown
    beside = neighbours.isolated("--reruns=2", "--max-suite-reruns=3", "--isolate-jobs=4")
    assert "4 failed, 3 rerun" in "\n".join(beside)


@pytest.mark.needs("sandbox", "pytest-rerunfailures")
def test_so_are_those_of_tests_that_die(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_rerunfailures")
    neighbours.project.write(
        test_it="""
        import os
        import pytest

        @pytest.mark.parametrize("number", range(3))
        def test_dies(number): os.abort()
        """
    )
    result = neighbours.project.isolated("--reruns=2", "--max-suite-reruns=4")
    result.assert_outcomes(failed=3)
    assert result.parseoutcomes()["rerun"] == 4


@pytest.mark.needs("sandbox", "pytest-rerunfailures")
def test_the_server_of_its_counts_is_not_for_tests_and_keeps_none_waiting(neighbours: Neighbourhood) -> None:
    """It is started where pytest-xdist is loaded, whether there are workers or not."""
    pytest.importorskip("xdist")
    neighbours.load("xdist", "pytest_rerunfailures")
    neighbours.project.write(
        conftest="""
        import socket
        import pytest

        @pytest.fixture(autouse=True)
        def refused(pytestconfig):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", pytestconfig.failures_db.sock_port))
        """,
        test_slow=TWO_SLOW_TESTS,
    )
    one, other = neighbours.project.spans("--isolate-jobs=2")
    assert other[0] < one[1]


@pytest.mark.needs("sandbox", "pytest-rerunfailures")
def test_reruns_in_a_worker_of_xdist_are_counted_by_one_test_after_another(neighbours: Neighbourhood) -> None:
    """They talk to the controller by one socket."""
    pytest.importorskip("xdist")
    neighbours.load("xdist", "pytest_rerunfailures")
    neighbours.project.write(test_slow=TWO_SLOW_TESTS.replace("range(2)", "range(4)"))
    spans = neighbours.project.spans("-n1", "--isolate-jobs=2", "--reruns=1")
    assert len(spans) == 4
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
