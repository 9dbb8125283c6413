"""What is reported of a test that dies: in all phases, with all it wrote, and an expected failure where one is.

By a keeper that only forks.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from tests.support.failures import reports_of, summary_of
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
