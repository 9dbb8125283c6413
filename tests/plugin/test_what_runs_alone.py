"""``--isolate-jobs``: which tests run beside others, and which alone."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.support.project import FIXTURES_STAY, TWO_SLOW_TESTS, Project, fixtures_stay

pytestmark = pytest.mark.needs("sandbox")

SPANS = """
    import mmap, time
    import pytest

    BEGUN = mmap.mmap(-1, 16)  # which all forks share

    def note(record_property, seconds=0.3):
        begin = time.time()
        time.sleep(seconds)
        record_property("span", [begin, time.time()])

    def meet(record_property, number, others):
        begin, BEGUN[number] = time.time(), 1
        while not all(BEGUN[other] for other in others) and time.time() < begin + 60:
            time.sleep(0.01)
        record_property("span", [begin, time.time()])

    def test_1(record_property): meet(record_property, 1, [2, 3])
    def test_2(record_property): meet(record_property, 2, [1, 3])
    def test_3(record_property): meet(record_property, 3, [1, 2])
    @pytest.mark.isolate(network="host")
    def test_alone_host(record_property): note(record_property)
    @pytest.mark.isolate(writable=".")
    def test_alone_writable(record_property): note(record_property)
    @pytest.mark.isolate(exclusive=True)
    def test_alone_exclusive(record_property): note(record_property)
    @pytest.mark.isolate(cpus=3)
    def test_alone_cpus(record_property): note(record_property)
    def test_4(record_property): meet(record_property, 4, [5])
    @pytest.mark.isolate(network="host", exclusive=False)
    def test_5(record_property): meet(record_property, 5, [4])
"""
SERVED = """
    import socket
    import pytest
    from test_it import meet, note

    @pytest.fixture(scope="module", autouse=True)
    def server():
        with socket.create_server(("127.0.0.1", 0)) as sock:
            yield sock

    def test_alone_server(record_property): note(record_property)
    def test_alone_server_again(record_property): note(record_property)
    @pytest.mark.isolate(exclusive=False)
    def test_6(record_property): meet(record_property, 6, [7])
    @pytest.mark.isolate(exclusive=False)
    def test_7(record_property): meet(record_property, 7, [6])
"""


def test_what_reaches_out_of_its_sandbox_runs_beside_no_other(project: Project) -> None:
    served = SERVED if FIXTURES_STAY else re.sub(r"\[[67]\]", "[]", SERVED)
    project.write(test_it=SPANS, test_server=served)
    records = project.records("--isolate-all", "--isolate-jobs=3", "--isolate-unsupported=skip")
    spans = {
        record["test"].partition("::test_")[2]: dict(record["properties"])["span"]
        for record in records
        if record["when"] == "call"
    }
    assert len(spans) == 13 - ("alone_cpus" not in spans)
    overlapping = {
        (one, other) for one in spans for other in spans if one < other and overlap(spans[one], spans[other])
    }
    assert not [pair for pair in overlapping if "alone" in "".join(pair)]
    meeting = {("1", "2"), ("1", "3"), ("2", "3"), ("4", "5"), ("6", "7")}
    assert (meeting if FIXTURES_STAY else meeting - {("6", "7")}) <= overlapping


def test_a_mark_that_lets_a_test_run_does_not_make_it_wait(project: Project) -> None:
    project.write(
        test_it="""
        import mmap, time
        import pytest

        BEGUN = mmap.mmap(-1, 2)  # which all forks share
        never = pytest.mark.skipif(False, reason="not here")

        def meet(number):
            BEGUN[number], until = 1, time.monotonic() + 20
            while not BEGUN[1 - number]:
                assert time.monotonic() < until
                time.sleep(0.01)

        @never
        def test_one(): meet(0)
        @never
        @pytest.mark.skipif(condition=False, reason="nor there")
        @pytest.mark.xfail(False, reason="known")
        @pytest.mark.xfail(raises=KeyError, strict=True)
        def test_other(): meet(1); {}["key"]

        @pytest.mark.xfail(run=False)
        def test_not_run(): assert 0
        @pytest.mark.xfail("1 / 0")
        def test_wrong(): pass
        @pytest.mark.skipif("BEGUN is None", reason="never")
        def test_string(): pass
        @pytest.mark.skipif(False)
        def test_without_a_reason(): pass
        @never
        @pytest.mark.skipif(True, reason="always")
        def test_skipped(): assert 0
        """
    )
    project.isolated("--isolate-jobs=2").assert_outcomes(passed=2, errors=2, skipped=1, xfailed=2)


@fixtures_stay
def test_tests_that_share_a_server_in_a_thread_run_side_by_side_if_they_say_so(project: Project) -> None:
    """What the thread logs and writes meanwhile is in a report, and not on the terminal."""
    project.write(
        test_it="""
        import logging, os, socket, threading
        import pytest

        @pytest.fixture(scope="module", autouse=True)
        def port():
            def serve():
                waiting = []
                while len(waiting) < 2:
                    connection, _ = sock.accept()
                    waiting.append(connection)
                    logging.getLogger().warning("somebody came, %d", len(waiting))
                    os.write(2, b"written by the thread\\n")
                for connection in waiting: connection.sendall(b"both")  # none has an answer before the other has come
            with socket.create_server(("127.0.0.1", 0)) as sock:
                thread = threading.Thread(target=serve, daemon=True)
                thread.start()
                yield sock.getsockname()[1]

        @pytest.mark.isolate(exclusive=False)
        @pytest.mark.parametrize("number", range(2))
        def test_it(port, number, record_property):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
                assert sock.recv(4) == b"both"
            logging.getLogger().warning("here is test %d", number)
        """
    )
    result = project.isolated("--isolate-jobs=2", "-rA")
    assert result.ret == 0
    first, last = (
        "\n".join(part) for part in split(result.outlines, lambda line: re.match("___* test_it", line) is not None)[1:]
    )
    for text in ("somebody came, 1", "somebody came, 2", "here is test 0"):
        assert first.count(text) == 1
    assert last.count("here is test 1") == 1
    assert "somebody" not in last
    assert "test 0" not in last
    written = [*result.outlines, *result.errlines].count("written by the thread")
    assert written == first.splitlines().count("written by the thread") == 2


def split(lines: list[str], begins: Callable[[str], bool]) -> list[list[str]]:
    """Parts of ``lines``, of which each but the first has one as its first that ``begins`` it."""
    parts: list[list[str]] = [[]]
    for line in lines:
        if begins(line):
            parts.append([])
        parts[-1].append(line)
    return parts


CLASSES = """
    import mmap, time
    from unittest import TestCase

    BEGUN, SET_UP = mmap.mmap(-1, 3), []

    def meet(number):
        BEGUN[number], end = 1, time.time() + 60
        while 0 in BEGUN[:3] and time.time() < end: time.sleep(0.01)
        assert 0 not in BEGUN[:3]

    class TestOne(TestCase):
        def test_it(self): meet(0)
    class TestTwo(TestCase):
        def test_it(self): meet(1)
    class TestThree(TestCase):
        def test_it(self):
            self.addClassCleanup(print, "cleaned up")
            meet(2)
    class TestFour(TestCase):
        @classmethod
        def setUpClass(cls): SET_UP.append("four")
        def test_it(self): assert SET_UP == ["four"]
    class TestFive(TestCase):
        @classmethod
        def tearDownClass(cls): print("torn down")
        def test_it(self): pass
"""


def test_classes_of_unittest_run_side_by_side_if_they_set_nothing_up(project: Project) -> None:
    project.write(test_it=CLASSES)
    result = project.isolated("--isolate-jobs=3", "-rP")
    result.assert_outcomes(passed=5)
    assert [line for line in result.outlines if line in ("cleaned up", "torn down")] == ["cleaned up", "torn down"]


HYPOTHESIS = """
    import mmap, time
    import pytest
    from hypothesis import given, settings, strategies

    BEGUN = mmap.mmap(-1, 2)

    @pytest.mark.parametrize("number", range(2))
    @settings(max_examples=1, deadline=None)
    @given(some=strategies.integers())
    def test_it(number, some):
        BEGUN[number], end = 1, time.time() + SECONDS
        while not BEGUN[1] and time.time() < end: time.sleep(0.01)
        assert BEGUN[1] == MEET or number == 1
"""


@pytest.mark.parametrize(
    ("options", "meet"),
    [([], "True"), (["--maxfail=9"], "False"), (["-p", "cacheprovider", "-p", "stepwise", "--sw"], "False")],
)
def test_hypothesis_tests_run_side_by_side_unless_a_failure_may_end_the_run(
    project: Project, options: list[str], meet: str
) -> None:
    """Their folder is the host's, and a test that was not to run would leave its examples there."""
    pytest.importorskip("hypothesis")
    project.write(test_it=HYPOTHESIS.replace("SECONDS", "60" if options == [] else "0.5").replace("MEET", meet))
    result = project.isolated("--isolate-jobs=2", "-p", "hypothesispytest", *options)
    result.assert_outcomes(passed=2)


def overlap(one: list[float], other: list[float]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def test_a_thread_that_a_module_has_started_keeps_no_test_waiting(project: Project) -> None:
    starts = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    project.write(test_it=f"{starts}\n{TWO_SLOW_TESTS}")
    one, other = project.spans("--isolate-jobs=2")
    assert other[0] < one[1]


def test_tests_that_share_a_file_of_sqlite_run_one_at_a_time(project: Project) -> None:
    project.write(
        test_it="""
        import sqlite3, time
        import pytest

        @pytest.fixture(scope="module")
        def database(tmp_path_factory):
            connection = sqlite3.connect(tmp_path_factory.mktemp("it") / "it.db")
            connection.execute("CREATE TABLE it(number)")
            yield connection
            connection.close()

        @pytest.mark.parametrize("number", range(3))
        def test_it(database, number):
            with database: database.execute("INSERT INTO it VALUES(1)")
            time.sleep(0.3)
            assert database.execute("SELECT count(*) FROM it").fetchone() == (1,)
            with database: database.execute("DELETE FROM it")
        """
    )
    project.isolated("--isolate-jobs=3").assert_outcomes(passed=3)


OF_A_FIXTURE = """
    import pytest

    @pytest.fixture(scope="module")
    def file(tmp_path_factory):
        path = tmp_path_factory.mktemp("it") / "it"
        path.write_bytes(bytes(range(200)))
        with path.open("rb", buffering=0) as file:
            yield file
"""
OF_A_MODULE = """
    import tempfile
    import pytest

    FILE = tempfile.TemporaryFile(buffering=0)
    FILE.write(bytes(range(200)))

    @pytest.fixture
    def file():
        return FILE
"""


@pytest.mark.parametrize("opened", [OF_A_FIXTURE, OF_A_MODULE], ids=["fixture", "module"])
def test_tests_that_share_an_open_file_read_where_they_have_gone_to(project: Project, opened: str) -> None:
    """All forks have one offset."""
    reads = """
    import time

    @pytest.mark.parametrize("number", range(3))
    def test_it(file, number):
        file.seek(0)
        for byte in range(200):
            time.sleep(0.001)
            assert file.read(1)[0] == byte
    """
    project.write(test_it=opened + reads)
    project.isolated("--isolate-jobs=3").assert_outcomes(passed=3)
