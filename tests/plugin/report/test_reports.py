"""How a test can end besides pytest's own outcomes, and what its reports say.

By a keeper that only forks, and says of the run what it is told to.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.support.project import Project

#: Ways to die in the middle of a phase, and what is said of each.
DEATHS = {
    "os.kill(os.getpid(), signal.SIGSEGV)": "killed by SIGSEGV",
    "os.kill(os.getpid(), signal.SIGKILL)": "killed by SIGKILL",
    "os.abort()": "killed by SIGABRT",
    "os._exit(0)": "exited with status 0 without a result",
    "os._exit(3)": "exited with status 3 without a result",
}
DYING = """
import os, pytest, signal, sys

@pytest.fixture
def fixture(request):
    print("set up")
    if request.node.name == "test_next":
        yield
        return
    if {phase!r} == "setup": {death}
    yield
    print("tears down")
    if {phase!r} == "teardown": {death}

def test_it(fixture):
    print("runs"); os.write(2, b"straight to 2")
    if {phase!r} == "call": {death}

def test_next(fixture): pass
"""


def summary_of(report: dict[str, Any]) -> str:
    """What the E line of a failure says."""
    (line,) = [line for line in report["text"].splitlines() if line.startswith("E ") and "Failed: " in line]
    return str(line.partition("Failed: ")[2])


def reports_of(project: Project, test: str = "test_it.py::test_it") -> dict[str, dict[str, Any]]:
    return {
        record["when"]: record
        for record in project.records("--isolate-all")
        if record.get("test") == test and "when" in record
    }


@pytest.mark.parametrize("death", DEATHS)
def test_a_test_that_dies_fails_by_name_and_the_next_one_runs(project: Project, death: str) -> None:
    project.fake_keeper()
    project.write(test_it=DYING.format(phase="call", death=death))
    result = project.isolated()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [f"E*Failed: {DEATHS[death]} (in the call)", f"FAILED test_it.py::test_it - Failed: {DEATHS[death][:20]}*"]
    )


@pytest.mark.parametrize("phase", ["setup", "call", "teardown"])
def test_a_death_is_a_failure_of_the_call_and_says_in_which_phase_it_happened(project: Project, phase: str) -> None:
    project.fake_keeper()
    project.write(test_it=DYING.format(phase=phase, death="os._exit(3)"))
    reports = reports_of(project)
    assert {when: report["outcome"] for when, report in reports.items()} == {
        "setup": "passed",
        "call": "failed",
        "teardown": "passed",
    }
    said = {"setup": "set-up", "call": "the call", "teardown": "tear-down"}
    assert summary_of(reports["call"]) == f"exited with status 3 without a result (in {said[phase]})"


@pytest.mark.parametrize("phase", ["setup", "call", "teardown"])
def test_the_output_before_a_death_is_in_its_report_under_the_phase_that_wrote_it(project: Project, phase: str) -> None:
    project.fake_keeper()
    project.write(test_it=DYING.format(phase=phase, death="os._exit(3)"))
    expected = [
        ["Captured stdout setup", "set up\n"],
        ["Captured stdout call", "runs\n"],
        ["Captured stderr call", "straight to 2"],
    ]
    expected = expected[: {"setup": 1, "call": 3, "teardown": 3}[phase]]
    reports = reports_of(project)
    assert reports["call"]["sections"] == expected
    own = [["Captured stdout teardown", "tears down\n"]] if phase == "teardown" else []
    assert reports["teardown"]["sections"] == expected + own  # as of a plain failure: junitxml takes it from there
    assert reports_of(project, "test_it.py::test_next")["call"]["sections"] == [["Captured stdout setup", "set up\n"]]


def test_the_output_of_higher_scoped_set_up_before_a_death_is_there_too(project: Project) -> None:
    project.fake_keeper()
    project.write(
        test_it="""
        import os, pytest
        @pytest.fixture(scope="module")
        def wide(): print("wide"); yield; print("wide down")
        @pytest.fixture
        def narrow(wide): print("narrow"); os._exit(1)
        def test_it(narrow): pass
        """
    )
    reports = reports_of(project)
    assert reports["call"]["sections"] == [["Captured stdout setup", "wide\nnarrow\n"]]
    assert reports["teardown"]["sections"][-1] == ["Captured stdout teardown", "wide down\n"]


def test_a_death_in_tear_down_keeps_what_the_test_itself_failed_of(project: Project) -> None:
    project.fake_keeper()
    project.write(
        test_it="""
        import os, pytest
        @pytest.fixture
        def fixture(): yield; os._exit(1)
        def test_it(fixture): assert "this" == "that"
        """
    )
    call = reports_of(project)["call"]
    assert summary_of(call) == "exited with status 1 without a result (in tear-down)"
    assert "assert 'this' == 'that'" in call["text"].partition("- The test itself -")[2]


def test_a_death_after_a_failed_set_up_is_an_error_in_tear_down(project: Project) -> None:
    project.fake_keeper()
    project.write(
        test_it="""
        import os, pytest
        @pytest.fixture
        def first(): yield; os._exit(1)
        @pytest.fixture
        def second(first): assert 0
        def test_it(second): pass
        """
    )
    reports = reports_of(project)
    assert {when: report["outcome"] for when, report in reports.items()} == {"setup": "failed", "teardown": "failed"}
    assert summary_of(reports["teardown"]) == "exited with status 1 without a result (in tear-down)"


@pytest.mark.parametrize(
    ("mark", "outcome"),
    [
        ("", "failed"),
        ("@pytest.mark.xfail", "xfailed"),
        ("@pytest.mark.xfail(strict=True)", "xfailed"),
        ("@pytest.mark.xfail(raises=ValueError)", "failed"),
        ("@pytest.mark.xfail(raises=pytest.fail.Exception)", "xfailed"),
        ("@pytest.mark.xfail(False, reason='not here')", "failed"),
    ],
)
def test_a_death_can_be_an_expected_failure(project: Project, mark: str, outcome: str) -> None:
    """Also where pytest's process has no set-up of its own to do for the test, as others stand before and after it."""
    project.fake_keeper()
    project.write(
        test_it=f"import os, pytest\n{mark}\ndef test_first(): os._exit(1)\n{mark}\ndef test_it(): os._exit(1)\n"
        "def test_last(): os._exit(1)"
    )
    expected = {"failed": 3} if outcome == "failed" else {outcome: 2, "failed": 1}
    project.isolated().assert_outcomes(**expected)


def test_runxfail_makes_it_unexpected_again(project: Project) -> None:
    project.fake_keeper()
    project.write(test_it="import os, pytest\n@pytest.mark.xfail\ndef test_it(): os._exit(1)")
    project.isolated("--runxfail").assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("options", "outcomes"), [((), {"passed": 2, "warnings": 4}), (("-W", "error"), {"passed": 2, "errors": 2})]
)
def test_a_file_of_tmp_path_that_is_lost_is_a_warning_of_its_test(
    project: Project, options: tuple[str, ...], outcomes: dict[str, int]
) -> None:
    project.fake_keeper(lost="('/base/large: No space left on device', '/base/other: No space left on device')")
    project.write(test_it="def test_it(): pass\ndef test_other(): pass")
    result = project.isolated(*options)
    result.assert_outcomes(**outcomes)
    result.stdout.fnmatch_lines(["*UserWarning: of tmp_path is lost /base/large: No space left on device"])


@pytest.mark.parametrize("options", [(), ("-n1",), ("--capture=no",), ("--show-capture=no",)])
def test_junit_xml_has_of_a_death_what_it_has_of_a_failure(project: Project, options: tuple[str, ...]) -> None:
    project.fake_keeper(
        stacks="'Thread 1: dies'", usage="Usage(wall_seconds=1, changes=(Change('A', '/x'),))", pids_denied="2"
    )
    project.write(
        test_it="""
        import os, sys
        def test_it():
            print("to out", flush=True)
            print("Connection refused", file=sys.stderr)
            os._exit(1)
        """
    )
    project.isolated("--junitxml=junit.xml", "-o", "junit_logging=all", "--isolate-pids=9", *options)
    suite = ET.parse(project.path / "junit.xml").getroot()[0]
    assert (suite.get("errors"), suite.get("failures")) == ("0", "1")
    (failure,) = suite.iter("failure")
    assert failure.get("message") == "Failed: hit pids=9, then exited with status 1 without a result (in the call)"
    text = failure.text or ""
    assert "E   Failed: hit pids=9, then exited with status 1 without a result (in the call)\n" in text
    assert "\ntest_it.py:2: Failed\n" in text
    for part in ("Thread 1: dies", "\nA /x", "2 forks were refused"):
        assert part in text
    captured = "--capture=no" not in options
    for stream, said in {"system-out": "to out", "system-err": "Connection refused"}.items():
        assert (said in "".join(element.text or "" for element in suite.iter(stream))) == captured
    assert ("the sandbox's own" in text) == captured  # a hint, by what was captured


def test_a_line_of_traceback_names_the_test(project: Project) -> None:
    project.fake_keeper()
    project.write(test_it="import os\n\ndef test_it():\n    os._exit(1)")
    project.isolated("--tb=line").stdout.fnmatch_lines(["*test_it.py:3: *exited with status 1*"])


def test_a_death_in_tear_down_shows_the_output_of_the_tear_down_once(project: Project) -> None:
    project.fake_keeper()
    project.write(test_it=DYING.format(phase="teardown", death="os._exit(3)"))
    assert project.isolated().stdout.str().count("tears down\n") == 1


PLACES = {
    "a function that the test calls": ("def f():\n    os.abort()\ndef test_it(): f()", 3),
    "a fixture": ("@pytest.fixture\ndef fixture():\n    os.abort()\ndef test_it(fixture): pass", 4),
    "a thread": (
        """import threading
def test_it():
    t = threading.Thread(target=os.abort)
    t.run = lambda: os.abort()
    t.start()
    t.join()""",
        5,
    ),
    "a method of unittest": (
        "import unittest\nclass TestIt(unittest.TestCase):\n    def test_it(self):\n        os.abort()",
        5,
    ),
    "an example of a doctest": ('def f():\n    """\n    >>> import os\n    >>> os.abort()\n    """', 5),
    "an unknown line of a test": ("@pytest.mark.skipif(False, reason='')\ndef test_it():\n    os._exit(1)", 3),
    "an unknown line, after a child died": (
        "def test_it():\n    if os.fork() == 0: os.abort()\n    os.wait()\n    os._exit(1)",
        2,
    ),
}


@pytest.mark.needs("sandbox")
@pytest.mark.parametrize("place", PLACES)
def test_the_end_of_a_death_names_the_line_that_was_reached(project: Project, place: str) -> None:
    source, line = PLACES[place]
    project.write(test_it=f"import os, pytest\n{source}")
    result = project.isolated("--doctest-modules")
    shown = result.stdout.str().partition("- Stacks")[0].splitlines()
    (end,) = [each for each in shown if each.endswith(": Failed")]
    assert end == f"test_it.py:{line}: Failed"
    marked = [each[1:].strip() for each in shown if each.startswith(">")]
    assert marked[-1] == (project.path / "test_it.py").read_text().splitlines()[line - 1].strip()


@pytest.mark.needs("sandbox")
def test_a_traceback_of_each_style_leads_to_that_line(project: Project) -> None:
    project.write(test_it="import os\ndef f():\n    os.abort()\ndef test_it():\n    f()")
    expected = {
        "short": [
            "test_it.py:5: in test_it",
            "    f()",
            "test_it.py:3: in f",
            "    os.abort()",
            "E   Failed: killed by*",
        ],
        "native": [
            '*test_it.py", line 5, in test_it',
            "    f()",
            '*test_it.py", line 3, in f',
            "    os.abort()",
            "Fail*",
        ],
        "line": ["*test_it.py:3: Failed: killed by SIGABRT (in the call)"],
        "no": ["FAILED test_it.py::test_it - Failed: killed by SIGABRT (in the call)"],
    }
    for style, lines in expected.items():
        project.isolated(f"--tb={style}").stdout.fnmatch_lines(lines, consecutive=True)


def test_of_a_limit_that_a_child_broke_the_place_is_that_of_the_tests_own_failure(project: Project) -> None:
    project.fake_keeper(oom_kills="1", usage="Usage(wall_seconds=1, memory_peak_bytes=50 << 20)")
    project.write(
        test_it="import subprocess\ndef test_it():\n    x = 1\n    subprocess.run(['false'], check=True)",
    )
    result = project.isolated("--isolate-memory=50M")
    result.stdout.fnmatch_lines(
        [
            ">*subprocess.run(?'false'?, check=True)",
            "E*Failed: exceeded memory=50M *",
            "test_it.py:4: Failed",
            "*The test itself*",
            "E*CalledProcessError*",
        ]
    )


def test_a_debugger_that_was_asked_for_says_why_it_has_no_prompt(project: Project) -> None:
    project.fake_keeper()
    project.write(test_it="import os\ndef test_it(): os._exit(1)")
    project.isolated("--pdb").stdout.fnmatch_lines(["*- No debugger -*", "--pdb has no prompt for this failure: *"])
    project.isolated().stdout.no_fnmatch_line("*No debugger*")


def test_a_limit_that_was_broken_fails_a_test_that_came_to_its_end(project: Project) -> None:
    project.fake_keeper(oom_kills="1", usage="Usage(wall_seconds=1, memory_peak_bytes=50 << 20)")
    project.write(test_it="def test_it(): print('runs')\ndef test_fails(): assert 'this' == 'that'")
    result = project.isolated("--isolate-memory=50M")
    result.assert_outcomes(failed=2)
    call = reports_of_all(project, "--isolate-memory=50M")["test_it"]["call"]
    assert summary_of(call) == "exceeded memory=50M (peak 50.0M, OOM-killed)"
    assert call["sections"] == [["Captured stdout call", "runs\n"]]
    result.stdout.fnmatch_lines(["*The test itself*", "*assert 'this' == 'that'*"])


def reports_of_all(project: Project, *arguments: str) -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for record in project.records("--isolate-all", *arguments):
        if "when" in record:
            found.setdefault(record["test"].rpartition("::")[2], {})[record["when"]] = record
    return found


def test_a_time_out_shows_stacks_and_living_processes(project: Project) -> None:
    project.fake_keeper(
        timed_out="True", stacks="'Thread 1: sleeping'", processes="('12 S sleep 100', '13 R yes')", complete="False"
    )
    project.write(test_it="import os\ndef test_it(): print('runs', flush=True); os._exit(0)")
    call = reports_of_all(project, "--isolate-timeout=1.5")["test_it"]["call"]
    assert call["text"].splitlines() == [
        ">   def test_it(): print('runs', flush=True); os._exit(0)",
        "E   Failed: exceeded timeout=1.5 s (in the call)",
        "",
        "test_it.py:2: Failed",
        "---------------------------- Stacks (faulthandler) -----------------------------",
        "Thread 1: sleeping",
        "----------------------- Processes alive at the time-out ------------------------",
        "12 S sleep 100",
        "13 R yes",
    ]
    assert call["sections"] == [["Captured stdout call", "runs\n"]]


def test_refused_processes_are_told_of_but_do_not_fail_a_test(project: Project) -> None:
    project.fake_keeper(pids_denied="3")
    project.write(test_it="def test_passes(): pass\ndef test_fails(): assert 0")
    result = project.isolated("--isolate-pids=20", "--junitxml=junit.xml")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Processes refused*", "hit pids=20: 3 forks were refused"])
    assert (project.path / "junit.xml").read_text().count('<property name="isolate_pids_denied" value="3"') == 2


def test_changed_files_are_listed_up_to_200(project: Project) -> None:
    project.fake_keeper(
        usage="Usage(wall_seconds=1, changes=(Change('D', '/etc'), *(Change('A', f'/x{i}') for i in range(202))))"
    )
    project.write(test_it="def test_it(): assert 0")
    text = reports_of(project)["call"]["text"]
    lines = text.partition("- Files changed in the sandbox -")[2].splitlines()[1:]
    assert lines[:2] == ["D /etc", "A /x0"]
    assert lines[-1] == "... and 3 more"
    assert len(lines) == 201


def test_output_of_a_process_that_outlives_the_test_stays_with_that_test(project: Project) -> None:
    project.fake_keeper()
    project.write(
        test_it="""
        import os, time
        def test_it():
            if os.fork() == 0:
                time.sleep(0.3); os.write(1, b"late"); os._exit(0)
        def test_next(): time.sleep(0.5)
        """
    )
    reports = reports_of_all(project)
    assert (
        reports["test_it"]["teardown"]["sections"] + reports["test_next"]["teardown"]["sections"] != []
    )  # it is not lost
    assert reports["test_next"]["setup"]["sections"] == []


def test_a_sandbox_that_cannot_be_built_is_an_error_in_set_up_and_never_an_expected_failure(project: Project) -> None:
    project.fake_keeper(run='raise SetupError("mount overlay", "/usr", 1, "Do this.")')
    project.write(test_it="import pytest\ndef test_1(): pass\n@pytest.mark.xfail\ndef test_2(): pass")
    result = project.isolated()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["sandbox: cannot mount overlay on /usr: EPERM (Operation not permitted). Do this."])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*SetupError*")
    assert [record["xfail"] for record in project.records("--isolate-all")] == [None] * 4


LACK = 'raise UnsupportedError("memory", "no memory controller", "Delegate one.")'


@pytest.mark.parametrize("where", ["init", "check", "run"])
@pytest.mark.parametrize(("option", "outcome"), [("error", "errors"), ("skip", "skipped"), ("degrade", "errors")])
def test_what_the_host_lacks_is_an_error_or_a_skip_as_asked(
    project: Project, where: str, option: str, outcome: str
) -> None:
    project.fake_keeper(**{where: LACK})
    project.write(
        test_it="""
        import pytest
        @pytest.fixture(scope="session")
        def wide(): print("made")
        def test_1(wide): pass
        @pytest.mark.xfail
        def test_2(wide): pass
        """
    )
    result = project.isolated(f"--isolate-unsupported={option}", "-rs")
    result.assert_outcomes(**{outcome: 2})
    result.stdout.fnmatch_lines(["*memory cannot be enforced here: no memory controller. Delegate one.*"])
    if outcome == "skipped":
        result.stdout.fnmatch_lines(["SKIPPED * test_it.py:*"])
    if where != "run":
        result.stdout.no_fnmatch_line("*made*")


def test_keys_that_are_not_in_force_are_named_in_summary_and_properties(project: Project) -> None:
    project.fake_keeper(degraded="(('memory', 'no controller'), ('cpus', 'no controller'))")
    project.write(test_it="def test_1(): pass\ndef test_2(): pass")
    result = project.isolated("--isolate-unsupported=degrade", "--junitxml=junit.xml")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["*isolated with less than asked for*", "memory: no controller (2 tests)", "cpus: no controller (2 tests)"]
    )
    assert (
        'name="isolate_degraded" value="memory: no controller; cpus: no controller"'
        in (project.path / "junit.xml").read_text()
    )


@pytest.mark.parametrize(
    "message",
    [
        "'nonsense'",
        "('report', {})",
        "('report', None)",
        "('unknown', 1)",
        "('report', dict(report, nodeid='test_other.py::test_it'))",
        "('report', dict(report, when='never'))",
        "('failed_subtests', 'x')",
        "('exit', [])",
    ],
)
def test_what_is_no_message_fails_the_test_and_not_the_run(project: Project, message: str) -> None:
    project.fake_keeper(
        messages=f"(*messages[:-1], (lambda report: {message})(messages[0][1]))",
    )
    project.write(test_it="def test_it(): pass\ndef test_next(): pass")
    result = project.isolated()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*a message out of the sandbox cannot be read*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_a_hook_that_raises_fails_the_test_it_ran_for_with_its_traceback(project: Project) -> None:
    project.fake_keeper()
    project.write(
        conftest="""
        import pytest
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_makereport(item):
            report = yield
            if item.name == "test_1": raise ValueError("hook")
            return report
        """,
        test_it="def test_1(): pass\ndef test_2(): pass",
    )
    result = project.isolated()
    assert result.ret != 0


def test_what_the_host_lacks_is_told_once_and_then_referred_to(project: Project) -> None:
    project.fake_keeper(check="raise UnsupportedError('memory', 'no group', 'Mount one.')")
    project.write(
        test_it="""
        import pytest
        pytestmark = pytest.mark.isolate(memory="50M")
        @pytest.mark.parametrize("number", range(3))
        def test_it(number): pass
        """
    )
    result = project.run()

    result.assert_outcomes(errors=3)
    assert result.stdout.str().count("Mount one.") == 1
    result.stdout.fnmatch_lines(
        [
            "memory cannot be enforced here: no group. Mount one.",
            *["memory cannot be enforced here, as is told beside test_it.py::test_it[[]0[]]."] * 2,
        ]
    )
