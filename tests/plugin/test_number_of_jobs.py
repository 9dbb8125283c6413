"""``--isolate-jobs``: the number that is given, what is said of it, and what makes it 1."""

from __future__ import annotations

import pytest

from pytest_isolate.plugin.run import jobs
from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")

TWO = """
    def test_one(): pass
    def test_other(): pass
"""


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
    project.write(test_it=TWO)
    result = project.isolated(*given.split())
    assert any(said in line for line in (*result.outlines, *result.errlines)), result.outlines


@pytest.mark.parametrize(("name", "said"), [('"around"', "around"), ("", "wraps")])
def test_a_plugin_that_wraps_each_test_is_named(project: Project, name: str, said: str) -> None:
    project.write(
        test_it=TWO,
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
        test_it=TWO,
    )
    lines = project.isolated("--isolate-jobs=2").outlines
    said = f"isolate: 1 job at a time, as a hook wraps pytest_runtest_protocol of each ({project.path / 'conftest.py'})"
    assert said in lines, lines


def _said(project: Project, *options: str) -> list[str]:
    return [line for line in project.isolated(*options).outlines if "at a time" in line]


def test_there_are_as_many_as_cores_if_nobody_says_how_many(project: Project) -> None:
    project.write(test_it=TWO)
    alone, each_of_two = (
        [f"isolate: {number} at a time"] if (number := jobs.count(None, workers)) > 1 else [] for workers in (1, 2)
    )
    assert _said(project) == alone
    assert _said(project, "--isolate-jobs=auto", "-q") == alone
    assert _said(project, "-q") == []
    assert _said(project, "-n2") == each_of_two
    assert _said(project, "-o", "isolate_jobs=1") == []


def test_one_test_is_beside_no_other(project: Project) -> None:
    project.write(
        test_it="""
        import sys
        def test_it(): assert "pytest_isolate.plugin.run.beside" not in sys.modules
    """
    )
    assert _said(project, "--isolate-jobs=3") == []
    project.isolated("--isolate-jobs=3").assert_outcomes(passed=1)


@pytest.mark.skipif(jobs.count(None, workers=1) == 1, reason="there is one core, so one job")
def test_what_is_in_the_way_of_several_is_said_to_those_who_ask(project: Project) -> None:
    project.write(test_it=TWO)
    why = "isolate: 1 job at a time, as their output goes to the terminal at once (--capture=no)"
    assert _said(project, "-s") == []
    assert _said(project, "-s", "-v") == [why]
    live = "isolate: 1 job at a time, as what a test logs is shown at once (log_cli)"
    assert _said(project, "--log-cli-level=INFO", "-v") == [live]
    assert _said(project, "--log-cli-level=INFO", "--isolate-jobs=2") == ["isolate: 2 at a time"]


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("", ["20 tests: a file of the fixture log is open in pytest's process"]),
        ("exclusive=True", []),
        ("exclusive=False", []),
    ],
)
def test_what_keeps_many_tests_from_running_side_by_side_is_said(project: Project, mark: str, said: list[str]) -> None:
    project.write(
        test_it=f"""
        import pytest

        @pytest.fixture(scope="module")
        def log(tmp_path_factory):
            with (tmp_path_factory.mktemp("it") / "log").open("w") as log: yield log

        @pytest.mark.isolate({mark})
        @pytest.mark.parametrize("number", range(20))
        def test_it(log, number): pass
        """
    )
    lines = project.run("--isolate-jobs=2").outlines
    assert [line for line in lines if " tests: " in line] == said
    assert ("isolated tests that ran one at a time" in " ".join(lines)) == bool(said)
