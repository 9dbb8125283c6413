"""What pytest itself does round a test: outcomes, output, options, interruption, other plugins; as in a plain run."""

from __future__ import annotations

import re

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")


def test_junit_xml_has_the_same_cases_and_properties(project: Project) -> None:
    project.write(
        test_it="""
        import pytest
        def test_it(record_property, record_testsuite_property, record_xml_attribute):
            record_property("of_test", 1)
            record_testsuite_property("of_suite", 2)
            record_xml_attribute("assertions", 3)
        """
    )
    project.isolated("--junitxml=junit.xml", "-o", "junit_family=xunit1", "-W", "ignore").assert_outcomes(passed=1)
    text = (project.path / "junit.xml").read_text()
    assert '<property name="of_test" value="1"' in text
    assert '<property name="of_suite" value="2"' in text
    assert 'assertions="3"' in text
    assert '<property name="isolate_wall_seconds"' in text


RUNS_TESTS_ITSELF = """
    import pytest
    from _pytest.runner import runtestprotocol

    def protocol(item, nextitem):
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        runtestprotocol(item, nextitem=nextitem)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True
"""
WHERE_IT_RUNS = """
    import socket
    import pytest

    @pytest.mark.isolate(hostname="inside")
    def test_it(): assert socket.gethostname() == "inside"
    @pytest.mark.isolate(hostname="inside")
    @pytest.mark.xfail
    def test_xfail(): assert socket.gethostname() == "inside"; assert 0
"""


@pytest.mark.parametrize("more", [[], ["-n", "1"]], ids=["here", "xdist"])
def test_another_plugin_that_wants_to_run_tests_first_does_so_inside(project: Project, more: list[str]) -> None:
    """As pytest-forked does; ours is registered before a conftest file, which pluggy calls first then."""
    project.write(
        conftest=f"""{RUNS_TESTS_ITSELF}
    pytest_runtest_protocol = pytest.hookimpl(tryfirst=True)(lambda item, nextitem: protocol(item, nextitem))
        """,
        test_it=WHERE_IT_RUNS,
    )
    project.run(*more).assert_outcomes(passed=1, xfailed=1)


def test_a_test_that_is_run_past_us_ends_the_run(project: Project) -> None:
    """It is no failure of the test, which an xfail mark would expect."""
    project.write(
        conftest=f"""{RUNS_TESTS_ITSELF}
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(session): return [protocol(item, None) for item in session.items[::-1]]
        """,
        test_it=WHERE_IT_RUNS,
    )
    result = project.run()
    result.stdout.fnmatch_lines(
        ["*test_it.py::test_xfail would run outside of its sandbox: another plugin or*no_isolate*"]
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.assert_outcomes()


def test_a_marker_that_is_added_last_of_all_counts(project: Project) -> None:
    project.write(
        conftest="""
        import pytest
        @pytest.hookimpl(trylast=True)
        def pytest_collection_modifyitems(items): items[0].add_marker(pytest.mark.isolate(hostname="inside"))
        """,
        test_it="""
        import socket
        def test_it(): assert socket.gethostname() == "inside"
        """,
    )
    project.run().assert_outcomes(passed=1)


@pytest.mark.parametrize("where", [(), ("--isolate-all",)], ids=["outside", "inside"])
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["here", "xdist"])
def test_a_marker_that_a_fixture_adds_too_late_ends_the_run(
    project: Project, where: tuple[str, ...], workers: tuple[str, ...]
) -> None:
    project.write(
        test_it="""
        import pytest
        @pytest.fixture
        def small(request): request.node.add_marker(pytest.mark.isolate(memory="50M"))
        @pytest.mark.xfail
        def test_it(small): assert 0
        """,
    )
    result = project.run(*where, *workers)
    (result.stderr if workers else result.stdout).fnmatch_lines(["*test_it.py::test_it: a fixture*modifyitems.*"])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.assert_outcomes()
    project.run("--isolate-off").assert_outcomes(xfailed=1)


@pytest.mark.skipif(pytest.version_tuple < (9, 0), reason="pytest has sub-tests since 9.0")
def test_failed_sub_tests_fail_the_run_as_in_a_plain_one(project: Project) -> None:
    project.write(
        test_it="""
        import unittest
        def test_it(subtests):
            for i in range(3):
                with subtests.test("message", i=i): assert i != 1
        class TestCase(unittest.TestCase):
            def test_it(self):
                for i in range(3):
                    with self.subTest(i=i): self.assertNotEqual(i, 1)
        """
    )
    plain, isolated = project.run("-rA"), project.isolated("-rA", "--isolate-usage=0")
    assert plain.ret == isolated.ret == 1
    summary = [
        [line for line in result.outlines if line.startswith(("FAILED", "SUB", "PASSED"))]
        for result in (isolated, plain)
    ]
    assert summary[0] == summary[1]
    assert len(summary[0]) == 4
    for option in ("-v", "-q", "--capture=sys"):
        words = [
            [line for line in result.outlines if re.search(r"(test_it|[,u.F]{3,}).* \[[ 0-9]+%\]$", line)]
            for result in (project.isolated(option), project.run(option))
        ]
        assert words[0] == words[1]
        assert words[0]


def test_output_goes_to_the_terminal_where_nothing_is_captured(project: Project) -> None:
    project.write(test_it="def test_it(): print('x' * 100_000)")
    result = project.isolated("-s")
    assert "x" * 100_000 in result.stdout.str()


def test_what_was_printed_before_the_fork_is_printed_once(project: Project) -> None:
    project.write(
        test_it="""
        import pytest
        @pytest.fixture(scope="module")
        def wide(): print("\\nsaid outside")
        def test_1(wide): print("said inside")
        def test_2(wide): pass
        """
    )
    assert project.isolated("-s").outlines.count("said outside") == 1


def test_the_hooks_of_a_conftest_hear_of_each_report_once_and_outside(project: Project) -> None:
    project.write(
        conftest="""
        import os
        MAIN = os.getpid()
        def pytest_runtest_logreport(report): assert os.getpid() == MAIN; print("\\nreport", report.when)
        def pytest_runtest_logstart(nodeid): print("\\nstart")
        def pytest_runtest_logfinish(nodeid): print("\\nfinish")
        """,
        test_it="def test_it(): pass",
    )
    result = project.isolated("-s")
    result.assert_outcomes(passed=1)
    assert [line for line in result.outlines if line.startswith(("report", "start", "finish"))] == [
        "start", "report setup", "report call", "report teardown", "finish",
    ]  # fmt: skip


def test_a_conftest_below_does_not_disturb_the_reports_of_tests_elsewhere(project: Project) -> None:
    for folder in ("a", "b"):
        project.pytester.mkdir(folder)
        (project.path / folder / "conftest.py").write_text("def pytest_runtest_logreport(report): pass")
        (project.path / folder / f"test_{folder}.py").write_text("def test_it(): pass")
    project.isolated().assert_outcomes(passed=2)


def test_the_hook_is_told_the_outcome_and_another_can_change_the_spec(project: Project) -> None:
    project.write(
        conftest="""
        import dataclasses
        def pytest_isolate_spec(item, spec): return dataclasses.replace(spec, hostname="changed")
        def pytest_isolate_outcome(item, outcome): print("\\nheard", item.name, outcome.complete, outcome.spec.hostname)
        """,
        test_it="def test_it(): pass",
    )
    project.isolated("-s").stdout.fnmatch_lines(["heard test_it True changed"])


def test_a_test_that_forks_and_falls_out_of_the_child_is_reported_once(project: Project) -> None:
    project.write(
        test_it="""
        import os
        def test_it():
            if pid := os.fork(): os.waitpid(pid, 0)
        """
    )
    project.isolated().assert_outcomes(passed=1)


def test_isolated_tests_need_no_plugin_that_may_be_switched_off(project: Project) -> None:
    project.write(test_it="import warnings\ndef test_it(tmp_path_factory=None): warnings.warn('x'); print('out')")
    disabled = (
        "capture",
        "logging",
        "warnings",
        "faulthandler",
        "tmpdir",
        "junitxml",
        "skipping",
        "unraisableexception",
        "threadexception",
    )
    for plugin in disabled:
        project.isolated("-p", f"no:{plugin}").assert_outcomes(passed=1, warnings=0 if plugin == "warnings" else 1)


def test_off_runs_tests_in_process_and_the_header_says_so(project: Project) -> None:
    project.write(test_it="import os\nMAIN = os.getpid()\ndef test_it(): assert os.getpid() == MAIN")
    result = project.isolated("--isolate-off")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["isolate: off (--isolate-off), all tests run in pytest's own process"])


def test_the_header_tells_what_is_in_force_after_collection_if_a_test_is_marked(project: Project) -> None:
    project.write(test_it="import pytest\n@pytest.mark.isolate\ndef test_it(): pass", test_other="def test_it(): pass")
    lines = project.run().outlines
    assert next(number for number, line in enumerate(lines) if line.startswith("isolate: ")) > lines.index(
        "collected 2 items"
    )
    assert not [line for line in project.run("test_other.py").outlines if line.startswith("isolate")]


def test_a_run_without_isolated_tests_loads_nothing_heavy(project: Project) -> None:
    project.is_forked = False
    project.write(
        test_it="""
        import sys
        HEAVY = {
            "pytest_isolate.plugin.run.isolation", "pytest_isolate.session.keeper",
            "pytest_isolate.plugin.report.summary", "cffi", "pyroute2",
        }
        def test_it(): assert not HEAVY & {*sys.modules}
        def test_as_it_is():  # not compiled anew for its asserts, of which it has none
            assert type(sys.modules["pytest_isolate.plugin.config.options"].__loader__).__name__ == "SourceFileLoader"
        """
    )
    project.run().assert_outcomes(passed=2)


def test_pytest_timeouts_alarm_does_not_go_off_in_pytests_own_process(project: Project) -> None:
    pytest.importorskip("pytest_timeout")
    project.fake_keeper()
    project.write(test_it="import time\ndef test_it(): time.sleep(0.7)")
    project.isolated("--timeout=0.3").assert_outcomes(passed=1)  # this keeper knows no time-out


def test_faulthandler_timeout_shows_where_the_test_is(project: Project) -> None:
    project.write(test_it="import time\ndef test_it():\n    time.sleep(0.7)")
    result = project.isolated("-o", "faulthandler_timeout=0.3")
    result.stderr.fnmatch_lines(["*test_it.py*, line 3 in test_it"])
