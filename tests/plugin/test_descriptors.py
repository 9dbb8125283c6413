"""A pytest that has few descriptors, or many, or none left."""

from __future__ import annotations

import resource

import pytest

from tests.support.project import QUICK, Project

pytestmark = pytest.mark.needs("sandbox")

TESTS = """
    def test_one(): pass
    def test_other(): pass
"""


def with_limit(pytester: pytest.Pytester, limit: int, *args: str) -> pytest.RunResult:
    """Run pytest with ``ulimit -n``."""
    ours = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, ours[1]))
    try:
        return pytester.runpytest_subprocess(*QUICK, *args)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, ours)


def test_a_low_limit_is_enough(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)

    with_limit(pytester, 64, "--isolate-all").assert_outcomes(passed=2)


def test_more_than_select_can_take_do_no_harm(pytester: pytest.Pytester) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2048:
        pytest.skip("ulimit -Hn is below 2048")
    pytester.makepyfile(
        """
        import os, pytest

        @pytest.fixture(scope="session", autouse=True)
        def many():
            files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1500)]
            yield
            for each in files:
                os.close(each)

        def test_one(): pass
        def test_other(): pass
        """
    )

    with_limit(pytester, 2048, "--isolate-all").assert_outcomes(passed=2)


@pytest.mark.parametrize("left", [0, 3, 8, 12])
def test_where_none_is_left_the_test_is_in_error_and_the_run_goes_on(pytester: pytest.Pytester, left: int) -> None:
    pytester.makepyfile(
        test_a=f"""
        import os, pytest

        @pytest.fixture(scope="module")
        def hog():
            files = []
            with pytest.raises(OSError):
                while True:
                    files.append(os.open(os.devnull, os.O_RDONLY))
            for _ in range({left}):
                os.close(files.pop())
            yield
            for each in files:
                os.close(each)

        def test_before(): pass
        def test_without(hog): pass
        """,
        test_b="def test_after(): pass",
    )

    result = with_limit(pytester, 128, "--isolate-all")

    outcomes = result.parseoutcomes()
    assert outcomes["passed"] >= 2
    assert outcomes["passed"] + outcomes.get("errors", 0) == 3
    if left < 8:
        result.stdout.fnmatch_lines(["*EMFILE*raise ulimit -n*", "ERROR test_a.py::test_without*"])


#: Files for what a test writes, where several run at a time.
OWN_OUTPUT = {f"/memfd:isolate-{name} (deleted)" for name in ("out", "err", "live-out", "live-err")}


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_descriptor_that_leads_out_reaches_a_test(project: Project, jobs: int) -> None:
    """Such as the builder's socket, the pidfd of a sandbox's PID 1, the files of its control groups, its layers."""
    project.write(
        test_it="""
        import os
        import pytest

        def links():
            names = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
            return {os.readlink(name) for name in names if os.path.lexists(name)}

        BEFORE = links()  # of us there is nothing yet

        @pytest.fixture(scope="module")
        def outside(): return links()

        @pytest.mark.parametrize("number", range(2))
        @pytest.mark.isolate(timeout=60)
        def test_it(outside, number):
            ours = outside - BEFORE
            assert [link for link in ours if link.startswith("socket:")]
            inside = links() - BEFORE
            assert {link for link in ours & inside if "isolate-stacks" not in link} == set()
            new = {link.partition(":[")[0] for link in inside - ours} - OUTPUT
            assert new == {"pipe", "socket"}  # for its reports
        """.replace("OUTPUT", str(OWN_OUTPUT) if jobs > 1 else "set()")
    )
    project.run(f"--isolate-jobs={jobs}").assert_outcomes(passed=2)
