"""multiprocessing in tests, after a fixture or module has used it outside: its helper processes are out of reach."""

from __future__ import annotations

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")

METHODS = ["fork", "spawn", "forkserver"]
#: A session that has used everything once.
USED = """
import multiprocessing, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import shared_memory
import pytest

def put(queue, what): queue.put(what)

def run(context):
    queue = context.Queue()
    process = context.Process(target=put, args=(queue, 1))
    process.start()
    assert queue.get(timeout=60) == 1
    process.join()
    assert process.exitcode == 0

@pytest.fixture(scope="session", autouse=True)
def used():
    run(multiprocessing.get_context(METHOD))
    memory = shared_memory.SharedMemory(create=True, size=10)
    yield memory
    memory.close()
    memory.unlink()
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_test_uses_multiprocessing_as_a_session_fixture_did(project: Project, method: str) -> None:
    project.write(
        test_it=USED.replace("METHOD", repr(method))
        + f"""
@pytest.mark.parametrize("method", {METHODS})
def test_start(method): run(multiprocessing.get_context(method))
@pytest.mark.parametrize("method", {METHODS})
def test_pool(method):
    with multiprocessing.get_context(method).Pool(2) as pool: assert pool.map(abs, [-1, -2]) == [1, 2]
@pytest.mark.parametrize("method", {METHODS})
def test_executor(method):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        assert pool.submit(abs, -1).result() == 1
def test_own_manager():
    with multiprocessing.get_context({method!r}).Manager() as manager:
        assert manager.list([1])[0] == 1
def test_shared_memory():
    memory = shared_memory.SharedMemory(create=True, size=10)
    again = shared_memory.SharedMemory(memory.name)
    assert bytes(again.buf[:1]) == b"\\0"
    again.close()
    memory.close()
    memory.unlink()
"""
    )

    result = project.isolated()

    result.assert_outcomes(passed=11)
    assert "Traceback" not in result.stderr.str()


def test_forkserver_as_the_default_is_that_of_the_sandbox(project: Project) -> None:
    """As in Python 3.14."""
    project.write(
        conftest="""
        import multiprocessing
        multiprocessing.set_start_method("forkserver")
        """,
        test_it=USED.replace("METHOD", "None")
        + """
def pid_namespace(queue):
    import os
    queue.put(os.readlink("/proc/self/ns/pid"))

def test_is_inside():
    import os
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=pid_namespace, args=(queue,))
    process.start()
    assert queue.get(timeout=60) == os.readlink("/proc/self/ns/pid")
    process.join()
""",
    )

    project.isolated().assert_outcomes(passed=1)


MANAGERS = """
import multiprocessing
import pytest

@pytest.fixture(scope="session")
def manager():
    with multiprocessing.Manager() as manager: yield manager

@pytest.fixture(scope="module")
def other():
    with multiprocessing.Manager() as manager: yield manager

@pytest.fixture(scope="session")
def shared(manager): return manager.dict(a=1)

def put(shared): shared["from"] = "a process"
"""


def test_the_manager_of_a_session_fixture_is_asked_by_tests_and_their_processes(project: Project) -> None:
    project.write(
        test_it=MANAGERS
        + f"""
def test_read(shared): assert shared["a"] == 1
def test_write(shared): shared["b"] = 2
def test_what_a_test_wrote(shared): assert shared.pop("b") == 2
def test_new(manager, other): assert manager.list([1])[0] == other.list([1])[0] == 1
def test_lock(manager):
    with manager.Lock(): pass
@pytest.mark.parametrize("method", {METHODS})
def test_process(shared, method):
    process = multiprocessing.get_context(method).Process(target=put, args=(shared,))
    process.start()
    process.join()
    assert shared.pop("from") == "a process"
def test_names_for_sockets_are_its_own(manager):
    with multiprocessing.Manager() as own:
        assert own.address.rpartition("/")[0] != manager.address.rpartition("/")[0]
"""
    )

    for run in (project.run, project.isolated):
        run().assert_outcomes(passed=9)


def test_a_test_that_ends_within_a_call_of_the_manager_leaves_the_answer_to_nobody(project: Project) -> None:
    project.write(
        test_it="""
        import multiprocessing
        import pytest

        @pytest.fixture(scope="session")
        def queue():
            with multiprocessing.Manager() as manager:
                queue = manager.Queue()
                queue.qsize()
                yield queue

        @pytest.mark.isolate(timeout=2)
        def test_waits(queue): queue.get()
        @pytest.mark.isolate(timeout=30)
        def test_asks(queue): assert queue.qsize() == 0
        """
    )

    project.isolated().assert_outcomes(failed=1, passed=1)
