"""Modules that tests import, which no test before has: those of the standard library are imported outside, once."""

from __future__ import annotations

import sys

import pytest

from pytest_isolate.plugin import messages
from pytest_isolate.plugin.integrations.imports import Imports
from tests.support.project import Project

#: Of the standard library; nothing that pytest imports has it.
MODULE = "colorsys"


@pytest.mark.needs("sandbox")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_module_of_the_standard_library_that_two_tests_import_is_there_for_those_after(
    project: Project, jobs: int
) -> None:
    project.write(
        test_it=f"""
        import sys
        import pytest

        @pytest.mark.parametrize("number", range(40))
        def test_it(number):
            there = {MODULE!r} in sys.modules
            import {MODULE}
            assert there == (number > 1) or 1 < number < 20 and {jobs} > 1  # these may have begun ahead
        """
    )
    project.isolated(f"--isolate-jobs={jobs}").assert_outcomes(passed=40)


@pytest.mark.needs("sandbox")
@pytest.mark.parametrize(
    ("first", "module"),
    [("", "this"), ("sys.path.insert(0, '.')", MODULE), ("sys.modules['eventlet'] = sys", MODULE)],
    ids=["does something", "of the project", "patched"],
)
def test_what_else_they_import_is_imported_in_each_sandbox(project: Project, first: str, module: str) -> None:
    """A file of the project may have the name of one; this process must not run it."""
    if "path" in first:
        project.write(colorsys="OURS = True")
    project.write(
        test_it=f"""
        import sys
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_it(number):
            {first or "pass"}
            assert {module!r} not in sys.modules
            import {module}
        """
    )
    project.isolated().assert_outcomes(passed=4)


@pytest.mark.parametrize(
    "name", ["unittest.__main__", "antigravity", "no_such", "xml.no_such", "", "..", "_pytest.pytester_assertions"]
)
def test_a_test_that_forges_its_message_has_nothing_else_imported(pytestconfig: pytest.Config, name: str) -> None:
    before = set(sys.modules)
    imports = Imports(pytestconfig)
    for _ in range(2):
        imports.receive(None, messages.IMPORTS, [[name], {}])  # type: ignore[arg-type]
    assert set(sys.modules) == before


@pytest.mark.needs("sandbox")
@pytest.mark.parametrize("options", [[], ["-n2"]], ids=" ".join)
def test_the_summary_names_a_package_that_many_tests_import(project: Project, options: list[str]) -> None:
    (project.path / "heavy").mkdir()
    for name in ("__init__", "one", "two", "three"):
        (project.path / "heavy" / f"{name}.py").write_text("")
    project.write(
        test_it="""
        import pytest
        @pytest.mark.parametrize("number", range(6))
        def test_it(number): import heavy.one, heavy.two, heavy.three
        def test_other(): pass
        """
    )
    result = project.isolated(*options)
    result.assert_outcomes(passed=7)
    result.stdout.fnmatch_lines(
        ["* imported anew in many sandboxes *", "heavy: 4 modules in each of 6 tests; if conftest.py *"]
    )
    assert "heavy:" not in project.isolated("-q", *options).stdout.str()
    project.write(conftest="import heavy.one, heavy.two, heavy.three")
    assert "heavy:" not in project.isolated(*options).stdout.str()
