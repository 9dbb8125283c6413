"""multiprocessing: of semaphores that tests leave, nobody says that they leaked."""

from __future__ import annotations

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")

LEAVING = """
import concurrent.futures, multiprocessing
import pytest

kept = []

@pytest.fixture(scope="session", autouse={outside})
def lock():
    return multiprocessing.get_context("spawn").Lock()

def test_leaves_a_semaphore():
    kept.append(multiprocessing.get_context("spawn").Semaphore())

def test_leaves_a_queue():
    kept.append(multiprocessing.get_context("forkserver").Queue())

def test_leaves_an_executor():
    kept.append(concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")))
    assert kept[0].submit(int, "1").result() == 1

def test_uses_the_lock_of_the_session(request):
    with request.getfixturevalue("lock"): pass
"""


@pytest.mark.parametrize("outside", ["True", "False"])
@pytest.mark.parametrize("options", [(), ("-n1",)])
def test_nothing_is_said_of_semaphores_that_tests_left(
    project: Project, outside: str, options: tuple[str, ...]
) -> None:
    project.write(test_it=LEAVING.format(outside=outside))
    result = project.isolated("-s", *options)
    result.assert_outcomes(passed=4)
    assert "leaked" not in result.stdout.str() + result.stderr.str()


def test_each_one_of_the_tests_own_is_taken_from_the_tracker_and_none_of_the_sessions(project: Project) -> None:
    project.write(
        test_it="""
        import multiprocessing, os
        from multiprocessing import resource_tracker
        import pytest

        kept = []
        unregister = resource_tracker.unregister

        def say(name, kind):
            os.write(1, kind.encode() + (b" of all" if name == kept[0]._semlock.name else b" of the test"))
            unregister(name, kind)

        @pytest.fixture(scope="session", autouse=True)
        def lock(): kept.append(multiprocessing.get_context("spawn").Lock())

        def test_it():
            resource_tracker.unregister = say
            kept.append(multiprocessing.get_context("spawn").Semaphore())
        """
    )
    shown = project.isolated("-s").stdout.str()
    assert shown.count("semaphore of the test") == 1
    assert "semaphore of all" not in shown
