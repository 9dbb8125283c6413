"""What reports say of a run besides pytest's own outcomes: limits, time-outs, what the host lacks, what the test lost.

By a keeper that only forks, and says of the run what it is told to.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.failures import reports_of, summary_of
from tests.support.project import Project


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
