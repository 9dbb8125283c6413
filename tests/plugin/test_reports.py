"""How a test can end besides pytest's own outcomes, and what its reports say.

By a keeper that only forks, and says of the run what it is told to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

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
        [f"{DEATHS[death]} (in the call)", f"FAILED test_it.py::test_it - Failed: {DEATHS[death][:20]}*"]
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
    assert reports["call"]["text"] == f"exited with status 3 without a result (in {said[phase]})"


@pytest.mark.parametrize("phase", ["setup", "call", "teardown"])
def test_the_output_before_a_death_is_in_its_report_under_the_phase_that_wrote_it(project: Project, phase: str) -> None:
    project.fake_keeper()
    project.write(test_it=DYING.format(phase=phase, death="os._exit(3)"))
    expected = [
        ["Captured stdout setup", "set up\n"],
        ["Captured stdout call", "runs\n"],
        ["Captured stderr call", "straight to 2"],
    ]
    expected += [["Captured stdout teardown", "tears down\n"]]
    assert reports_of(project)["call"]["sections"] == expected[: {"setup": 1, "call": 3, "teardown": 4}[phase]]
    assert reports_of(project, "test_it.py::test_next")["call"]["sections"] == [["Captured stdout setup", "set up\n"]]


def test_the_output_of_wider_scoped_set_up_before_a_death_is_there_too(project: Project) -> None:
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
    assert call["text"] == "exited with status 1 without a result (in tear-down)"
    assert "assert 'this' == 'that'" in dict(call["sections"])["The test itself"]


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
    assert reports["teardown"]["text"] == "exited with status 1 without a result (in tear-down)"


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
    project.fake_keeper()
    project.write(test_it=f"import os, pytest\n{mark}\ndef test_it(): os._exit(1)")
    project.isolated().assert_outcomes(**{outcome: 1})


def test_runxfail_makes_it_unexpected_again(project: Project) -> None:
    project.fake_keeper()
    project.write(test_it="import os, pytest\n@pytest.mark.xfail\ndef test_it(): os._exit(1)")
    project.isolated("--runxfail").assert_outcomes(failed=1)


def test_junit_xml_counts_a_death_as_a_failure(project: Project) -> None:
    project.fake_keeper()
    project.write(test_it="import os\ndef test_it(): os._exit(1)")
    project.isolated("--junitxml=junit.xml")
    text = (project.path / "junit.xml").read_text()
    assert 'errors="0" failures="1"' in text
    assert '<failure message="Failed: exited with status 1 without a result (in the call)">' in text


def test_a_line_of_traceback_names_the_test(project: Project) -> None:
    project.fake_keeper()
    project.write(test_it="import os\n\ndef test_it():\n    os._exit(1)")
    project.isolated("--tb=line").stdout.fnmatch_lines(["*test_it.py:3: *exited with status 1*"])


def test_a_limit_that_was_broken_fails_a_test_that_came_to_its_end(project: Project) -> None:
    project.fake_keeper(oom_kills="1", usage="Usage(wall_seconds=1, memory_peak_bytes=50 << 20)")
    project.write(test_it="def test_it(): print('runs')\ndef test_fails(): assert 'this' == 'that'")
    result = project.isolated("--isolate-memory=50M")
    result.assert_outcomes(failed=2)
    call = reports_of_all(project, "--isolate-memory=50M")["test_it"]["call"]
    assert call["text"] == "exceeded memory=50M (peak 50.0M, OOM-killed)"
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
    assert call["text"] == "exceeded timeout=1.5 s (in the call)"
    assert call["sections"] == [
        ["Captured stdout call", "runs\n"],
        ["Stacks (faulthandler)", "Thread 1: sleeping"],
        ["Processes alive at the time-out", "12 S sleep 100\n13 R yes"],
    ]


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
    sections = dict(reports_of(project)["call"]["sections"])
    lines = sections["Files changed in the sandbox"].splitlines()
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
