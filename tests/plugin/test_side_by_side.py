"""``--isolate-jobs``: what runs at the same time, and that nobody sees a difference but the time that it takes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.project import Project, fixtures_stay

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
