"""``--isolate-jobs``: what runs at the same time, and that nobody sees a difference but the time that it takes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.project import TWO_SLOW_TESTS, Project

pytestmark = pytest.mark.needs("sandbox")

MOTLEY = """
    import logging, os, signal, sys, time, unittest, warnings
    import pytest

    @pytest.fixture(scope="module")
    def wide(request):
        print("set up", request.node.name)
        yield [1]
        print("tear down", request.node.name)

    @pytest.fixture(scope="session", params=["x", "y"])
    def letter(request): return request.param

    def test_sleeps(): time.sleep(0.08)
    def test_prints(capsys):
        print("out"); print("err", file=sys.stderr); os.write(1, b"raw out\\n")
        with capsys.disabled(): print("LIVE")
    def test_fails(): logging.getLogger().warning("logged"); print("seen"); assert [1, 2] == [1, 3]
    def test_wide(wide): wide.append(2); assert wide == [1, 2]
    def test_wide_again(wide): assert wide == [1]
    def test_letter(letter): assert letter == "x"
    @pytest.mark.parametrize("number", range(4))
    def test_numbers(number): time.sleep(0.02 * (3 - number)); assert number != 2
    @pytest.mark.skip(reason="no")
    def test_skipped(): pass
    @pytest.mark.xfail(strict=True)
    def test_xfails(): assert 0
    @pytest.mark.xfail(run=False)
    def test_never(): assert 0
    @pytest.mark.xfail
    def test_xdies(): print("last words", flush=True); os.kill(os.getpid(), signal.SIGKILL)
    def test_dies(): print("last words", flush=True); os._exit(3)
    @pytest.mark.filterwarnings("error")
    def test_error_of_warning(): time.sleep(0.02); warnings.warn("strict")
    def test_warns(): warnings.warn("loose")
    @pytest.mark.no_isolate
    def test_outside(): os.environ["OUTSIDE"] = __name__
    def test_after_outside(): assert os.environ["OUTSIDE"] == __name__
    def test_folder(tmp_path): (tmp_path / "file").write_text("1"); print(tmp_path.name)
    @pytest.mark.parametrize("long", ["a" * 40, "a" * 41])
    def test_folders(tmp_path, long): print(tmp_path.name)
    def test_folder_of_its_own_name(tmp_path_factory): print(tmp_path_factory.mktemp("some").name)
    def test_properties(record_property): record_property("name", "value")
    def test_descriptors():
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        kinds = [os.readlink(link).partition(":[")[0] for link in links if os.path.lexists(link)]
        print(sorted(kind for kind in kinds if kind in ("pipe", "socket", "/memfd:isolate-stacks (deleted)")))
    class TestClass:
        @classmethod
        def setup_class(cls): print("class set up"); cls.value = 1
        @classmethod
        def teardown_class(cls): print("class torn down")
        def test_one(self): assert self.value == 1
        def test_two(self): assert 0
    class TestCase(unittest.TestCase):
        def test_sub(self):
            for number in range(3):
                with self.subTest(number=number): assert number != 1
"""
#: Its time is up while it sleeps, on a machine where four set-ups at once take a second, too.
TOO_SLOW = """
    import time
    import pytest
    @pytest.mark.isolate(timeout=3)
    def test_slow(): time.sleep(60)
    def test_it(): assert 0
"""
#: What differs from run to run: times, addresses, numbers of folders and processes, how deep pytest's own frames are;
#: frames of C.
VARYING = re.compile(
    r"\d+\.\d+ ?m?s|0x[0-9a-f]+|pytest-\d+|pid \d+|\d+ frames of pytest|=====+"
    r'|time(stamp)?="\S+"|name="isolate_\w+" value="\S+"|Binary file "[^\]]*\]'
)


def test_reports_and_warnings_are_those_of_one_at_a_time_and_in_their_order(project: Project) -> None:
    project.write(test_one=MOTLEY, test_two=MOTLEY, test_three=TOO_SLOW)
    one = project.records("--isolate-all")
    assert len(one) > 150
    many = project.records("--isolate-all", "--isolate-jobs=4")
    assert [stable(record) for record in many] == [stable(record) for record in one]


def stable(seen: object) -> str:
    return VARYING.sub("", str(seen))


@pytest.mark.parametrize(
    "options",
    [
        ["-v", "-rA", "--junitxml=out.xml"],
        ["-x"],
        ["-q", "--maxfail=2"],
        ["-p", "cacheprovider", "-p", "stepwise", "--sw"],
        ["-o", "log_cli=true", "--log-cli-level=info", "--durations=1", "--durations-min=2"],
        ["-n1", "-v"],
    ],
    ids=lambda options: options[-1].partition("=")[0],
)
def test_what_is_shown_is_that_of_one_at_a_time(project: Project, options: list[str]) -> None:
    seconds = 3 if "--durations=1" in options else 0.3  # more than any phase of the others takes on a slow machine
    project.write(
        test_it=f"""
        import logging, time
        import pytest
        def test_slow(): time.sleep({seconds})
        @pytest.mark.parametrize("number", range(8))
        def test_numbers(number, tmp_path):
            print("out", number); logging.getLogger().info("log %s", number); assert number % 3
        """
    )
    shown = []
    for jobs in (1, 4):
        base = project.path / "base"
        result = project.isolated(f"--isolate-jobs={jobs}", f"--basetemp={base}", "--isolate-usage=0", *options)
        assert result.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
        shutil.rmtree(project.path / ".pytest_cache", ignore_errors=True)
        lines = [line for line in result.outlines if line != "isolate: 4 at a time"]
        lines += [path.read_text() for path in project.path.glob("*.xml")]
        lines += sorted(path.name for path in base.rglob("*"))  # nothing of what was thrown away
        shown.append([stable(line) for line in lines])
    assert shown[1] == shown[0]


#: Before, a test that asks for a higher-scoped fixture waits for its turn (docs/options.md).
FIXTURES_STAY = pytest.version_tuple >= (8, 4)
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


fixtures_stay = pytest.mark.skipif(not FIXTURES_STAY, reason="each waits for its turn: see docs/options.md")


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


def test_a_wider_fixture_is_torn_down_when_all_that_were_forked_under_it_have_ended(project: Project) -> None:
    project.write(
        conftest="""
        import time
        import pytest

        @pytest.fixture(scope="module")
        def wide(request):
            yield
            with open(request.node.name + ".log", "a") as log: print("torn down", time.time(), file=log)
        """,
        test_a=WIDE,
        test_b=WIDE,
    )
    records = project.records("--isolate-all", "--isolate-jobs=4")
    ends = {record["test"]: dict(record["properties"])["end"] for record in records if record["when"] == "call"}
    begins = {record["test"]: dict(record["properties"])["begin"] for record in records if record["when"] == "call"}
    for name, other in (("test_a.py", "test_b.py"), ("test_b.py", "test_a.py")):
        (line,) = (project.path / f"{name}.log").read_text().splitlines()
        torn_down = float(line.split()[-1])
        assert max(end for test, end in ends.items() if test.startswith(name)) < torn_down
        later = [begin for test, begin in begins.items() if test.startswith(other) and begin > torn_down]
        assert len(later) == (3 if name == "test_a.py" else 0)


WIDE = """
    import time
    import pytest

    @pytest.mark.parametrize("seconds", [0.4, 0.1, 0.2])
    def test_it(wide, seconds, record_property):
        record_property("begin", time.time())
        time.sleep(seconds)
        record_property("end", time.time())
"""


@fixtures_stay
def test_ctrl_c_ends_all_of_them_and_shows_where_the_present_one_was(project: Project) -> None:
    project.write(
        test_it="""
        import os, time
        import pytest
        @pytest.fixture(scope="session", autouse=True)
        def wide():
            yield
            with open("torn_down", "w"): pass
        @pytest.mark.isolate(exclusive=True)
        def test_before(): pass
        @pytest.mark.parametrize("number", range(40))
        def test_it(number): os.write(int(os.environ["BELL"]), b"."); time.sleep(600)
        """
    )
    with eight_at_work(project) as process:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)  # it is 1 s on a machine that has nothing else to do
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert "test_it.py:10: KeyboardInterrupt: in test_it.py::test_it[0]" in output
    assert "1 passed" in output
    assert (project.path / "torn_down").exists()


@contextmanager
def eight_at_work(project: Project) -> Iterator[subprocess.Popen[str]]:
    """A pytest of which eight tests have written a byte to descriptor BELL, and go on."""
    reader, bell = os.pipe()
    command = [sys.executable, "-m", "pytest", "-v", *project.options, "--isolate-all", "--isolate-jobs=8"]
    with subprocess.Popen(
        command,
        cwd=project.path,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[bell],
        env={**os.environ, "BELL": str(bell)},
    ) as process:
        os.close(bell)
        with open(reader, "rb", buffering=0) as rung:
            for _ in range(8):
                assert rung.read(1)
            yield process


def test_many_tests_of_any_end_leave_nothing_behind_and_have_the_reports_of_one_at_a_time(project: Project) -> None:
    project.write(
        conftest="""
        import os, re
        def pytest_sessionfinish(session):
            links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
            kinds = [re.sub("[0-9]+", "N", os.readlink(link)) for link in links if os.path.lexists(link)]
            open("left", "w").write("\\n".join(sorted(kind for kind in kinds if "isolate-stacks" not in kind)))
            children = open(f"/proc/self/task/{os.getpid()}/children").read()
            assert not children, children
        """,
        test_it="""
        import os, random, signal, sys, time, pytest
        @pytest.mark.parametrize("seed", range(60))
        def test_it(seed, request):
            chance = random.Random(seed)
            time.sleep(chance.choice([0, 0, 0, 0.02, 0.1]))
            print("out", seed, flush=True)
            if chance.random() < 0.3: request.getfixturevalue("tmp_path")
            end = chance.randrange(8)
            if end == 0: assert seed < 0
            if end == 1: os.kill(os.getpid(), chance.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM]))
            if end == 2: os._exit(chance.randrange(3))
            if end == 3: pytest.skip("of no use")
            if end == 4: sys.exit("enough")
        @pytest.mark.parametrize("number", range(20))
        def test_folder(number, tmp_path): assert number % 5
        """,
    )
    seen = []
    for jobs in (1, 8):
        records = project.records("--isolate-all", f"--isolate-jobs={jobs}")
        seen.append(([stable(record) for record in records], (project.path / "left").read_text().splitlines()))
    assert seen[1] == seen[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "--isolate-jobs=2 -s",
            "isolate: 1 job at a time, as their output goes to the terminal at once (--capture=no)",
        ),
        ("--isolate-jobs=0", """--isolate-jobs: '0': allowed are whole numbers from 1 to 32, and "auto"."""),
        ("-o isolate_jobs=many", """-o isolate_jobs: 'many': allowed are whole numbers from 1 to 32, and "auto"."""),
        ("--isolate-jobs=3", "isolate: 3 at a time"),
    ],
)
def test_the_number_is_checked_and_said(project: Project, given: str, said: str) -> None:
    project.write(test_it="def test_it(): pass")
    result = project.isolated(*given.split())
    assert any(said in line for line in (*result.outlines, *result.errlines)), result.outlines


def test_a_thread_that_a_module_has_started_keeps_no_test_waiting(project: Project) -> None:
    starts = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    project.write(test_it=f"{starts}\n{TWO_SLOW_TESTS}")
    one, other = project.spans("--isolate-jobs=2")
    assert other[0] < one[1]


@pytest.mark.parametrize(("name", "said"), [('"around"', "around"), ("", "wraps")])
def test_a_plugin_that_wraps_each_test_is_named(project: Project, name: str, said: str) -> None:
    project.write(
        test_it="def test_it(): pass",
        wraps="""
        import pytest

        class Around:
            @pytest.hookimpl(wrapper=True)
            def pytest_runtest_protocol(self): return (yield)
        """,
        conftest=f"""
        import wraps

        def pytest_configure(config): config.pluginmanager.register(wraps.Around(), {name})
        """,
    )
    lines = project.isolated("--isolate-jobs=2").outlines
    assert f"isolate: 1 job at a time, as a hook wraps pytest_runtest_protocol of each ({said})" in lines, lines


def test_a_hook_that_is_in_the_way_is_said_with_its_name_and_file(project: Project) -> None:
    project.write(
        conftest="""
        import pytest

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(item, nextitem): return (yield)
        """,
        test_it="def test_it(): pass",
    )
    lines = project.isolated("--isolate-jobs=2").outlines
    said = f"isolate: 1 job at a time, as a hook wraps pytest_runtest_protocol of each ({project.path / 'conftest.py'})"
    assert said in lines, lines


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
