"""What coverage.py measures is, line by line and context by context, what it measures in a plain run."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")

LIBRARY = """
import sys

def branches(way):
    if way:
        return 1
    return 2

def for_narrow():
    return 3

def for_wide():
    return 4

def after_wide():
    return 5

def in_fork():
    return 6

def in_thread():
    return 7

def never():
    return 8

if __name__ == "__main__":
    if len(sys.argv) > 1:
        print("with arguments")
    else:
        print("without")
"""
TESTS = """
import os, subprocess, sys, threading
import pytest
import library

@pytest.fixture(scope="module")
def wide():
    yield library.for_wide()
    library.after_wide()

@pytest.fixture
def narrow(wide): return library.for_narrow()

@pytest.mark.parametrize("way", [True, False])
def test_both_ways(narrow, way): library.branches(way)

def test_fails(narrow): assert library.branches(True) == 2

def test_thread():
    thread = threading.Thread(target=library.in_thread); thread.start(); thread.join()

def test_subprocess(tmp_path, monkeypatch):
    file = os.path.abspath("library.py")
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, file], check=True)

def test_fork():
    if (pid := os.fork()) == 0:
        library.in_fork()
        os._exit(0)
    os.waitpid(pid, 0)
"""


@pytest.fixture
def measured(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START", "COVERAGE_FILE"):  # of a run that measures us
        monkeypatch.delenv(name, raising=False)
    project.write(library=LIBRARY, test_it=TESTS)
    return project


def configure(project: Project, **run: str) -> None:
    lines = ["[run]", *(f"{name} = {value}" for name, value in run.items()), "[json]", "show_contexts = true"]
    (project.path / ".coveragerc").write_text("\n".join(lines))


def figures(project: Project) -> dict[str, Any]:
    """All that coverage tells of the latest run, but the time."""
    report = json.loads((project.path / "coverage.json").read_text())
    del report["meta"]
    for file in report["files"].values():
        for part in (file, *file["functions"].values(), *file["classes"].values()):
            part["contexts"] = {line: sorted(names) for line, names in part.get("contexts", {}).items()}
    assert {"library.py", "test_it.py"} <= {*report["files"]}
    return report  # type: ignore[no-any-return]


def compared(project: Project, *options: str) -> dict[str, Any]:
    """The figures of an isolated run, after seeing that a plain run has the same."""
    found = []
    for isolate in ([], ["--isolate-all"]):
        result = project.run("-rA", "--cov=.", "--cov-report=json", "-W", "error", *options, *isolate)
        result.assert_outcomes(passed=5, failed=1)
        result.stdout.no_fnmatch_line("A *.coverage*")  # among the files that a test changed
        found.append(figures(project))
    plain, isolated = found
    assert isolated == plain
    return isolated


def texts(numbers: list[int]) -> list[str]:
    return [LIBRARY.strip().splitlines()[number - 1].strip() for number in numbers]


def number(text: str) -> str:
    return str([line.strip() for line in LIBRARY.strip().splitlines()].index(text) + 1)


NEVER = "return 8"
MAIN = ["if len(sys.argv) > 1:", 'print("with arguments")', 'print("without")']


def test_branches_contexts_and_subprocesses_are_measured_as_in_a_plain_run(
    measured: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COVERAGE_CORE", "ctrace")  # that of Python 3.14 and newer has no contexts, and warns
    configure(measured, patch="subprocess, _exit")
    library = compared(measured, "--cov-branch", "--cov-context=test")["files"]["library.py"]
    assert texts(library["missing_lines"]) == [NEVER, MAIN[1]]
    assert [texts(branch) for branch in library["missing_branches"]] == [MAIN[:2]]
    contexts = {text: library["contexts"][number(text)] for text in ("return 2", "return 4", "return 5", "return 6")}
    assert contexts == {
        "return 2": ["test_it.py::test_both_ways[False]|run"],
        "return 4": ["test_it.py::test_both_ways[True]|setup"],
        "return 5": ["test_it.py::test_fork|teardown"],
        "return 6": ["test_it.py::test_fork|run"],
    }


def test_lines_are_measured_as_in_a_plain_run_where_coverage_follows_forks(measured: Project) -> None:
    configure(measured, patch="fork, _exit", dynamic_context="test_function")
    library = compared(measured, "-W", "ignore:Detected dynamic_context")["files"]["library.py"]
    missing = texts(library["missing_lines"])
    assert [text for text in missing if text != "return 6"] == [NEVER, *MAIN]  # coverage before 7.17 forgets forks


def test_xdist_workers_measure_what_a_plain_run_measures(measured: Project) -> None:
    pytest.importorskip("xdist")
    configure(measured, patch="subprocess, _exit")
    result = measured.isolated("--cov=.", "--cov-report=json", "--cov-branch", "-n2", "-W", "error")
    result.assert_outcomes(passed=5, failed=1)
    assert texts(figures(measured)["files"]["library.py"]["missing_lines"]) == [NEVER, MAIN[1]]


def test_coverage_run_measures_what_a_plain_run_measures(measured: Project) -> None:
    configure(measured, branch="true", source=".")
    found = []
    for isolate in ([], ["--isolate-all"]):
        run = [sys.executable, "-m", "coverage", "run", "-m", "pytest", "-p", "no:cacheprovider"]
        measured.pytester.run(*run, *measured.options, *isolate).assert_outcomes(passed=5, failed=1)
        measured.pytester.run(sys.executable, "-m", "coverage", "json")
        found.append(figures(measured))
    assert found[1] == found[0]
    assert texts(found[1]["files"]["library.py"]["missing_lines"]) == ["return 6", NEVER, *MAIN]


def test_a_test_that_spoils_its_coverage_is_told_and_the_run_goes_on(measured: Project) -> None:
    measured.write(
        test_it="""
        import glob, library, subprocess, sys
        def test_spoils():
            subprocess.run([sys.executable, "library.py"], check=True)
            for name in glob.glob(".coverage.*"): open(name, "wb").write(b"no data file")
        def test_next(): library.branches(True)
        """
    )
    configure(measured, patch="subprocess")
    result = measured.isolated("--cov=.", "--cov-report=json")
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(["*what this test covered is not complete: *"])
    assert 5 in figures(measured)["files"]["library.py"]["executed_lines"]


FALSE = ("never imported", "No data was collected")


@pytest.mark.parametrize("options", [(), ("--cov-branch",), ("-n1",)])
def test_nobody_is_warned_of_a_module_that_only_tests_import(measured: Project, options: tuple[str, ...]) -> None:
    if "-n1" in options:
        pytest.importorskip("xdist")
    measured.write(test_it="def test_it():\n    import library\n    library.branches(True)\n")

    result = measured.isolated("--cov=library", "--cov-report=term-missing", *options)

    result.assert_outcomes(passed=1)
    assert not [line for line in (*result.outlines, *result.errlines) if any(words in line for words in FALSE)]
    result.stdout.re_match_lines([r"library\.py .*[1-9]\d%"])


def test_nobody_is_warned_by_coverage_run_either(measured: Project) -> None:
    measured.write(test_it="def test_it():\n    import library\n    library.branches(True)\n")
    command = [sys.executable, "-m", "coverage", "run", "--source=library", "-m", "pytest", "-p", "no:cacheprovider"]

    result = measured.pytester.run(*command, *measured.options, "--isolate-all")

    result.assert_outcomes(passed=1)
    assert not [line for line in (*result.outlines, *result.errlines) if any(words in line for words in FALSE)]


@pytest.mark.parametrize("options", [(), ("-n1",)])
def test_what_really_is_not_imported_or_not_measured_is_warned_of_as_in_a_plain_run(
    measured: Project, options: tuple[str, ...]
) -> None:
    if options:
        pytest.importorskip("xdist")
    measured.write(other="x = 1\n", test_it="def test_it():\n    import library\n")
    sources = (["--cov=library", "--cov=other"], ["--cov=other"])
    for source in sources:
        told = []
        for isolate in ([], ["--isolate-all"]):
            result = measured.run(*source, *options, *isolate)
            lines = [line.partition("Warning: ")[2] for line in (*result.outlines, *result.errlines)]
            told.append(sorted(line for line in lines if any(words in line for words in FALSE)))
        assert told[1] == told[0]
        assert options or told[0]


def test_files_that_nobody_ran_are_in_the_report_as_in_a_plain_run(measured: Project) -> None:
    (measured.path / "pack").mkdir()
    for name in ("__init__", "ran", "never"):
        (measured.path / "pack" / f"{name}.py").write_text("x = 1\n")
    measured.write(test_it="def test_it():\n    import pack.ran\n")
    tables = []
    for isolate in ([], ["--isolate-all"]):
        lines = measured.run("--cov=pack", *isolate).outlines
        tables.append([line for line in lines if line.startswith(("pack", "TOTAL"))])
    assert tables[1] == tables[0]
    assert len(tables[0]) == 4


def test_data_that_cannot_be_written_ends_the_run_as_a_plain_run_when_all_tests_have_run(
    measured: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COVERAGE_FILE", "/proc/coverage")
    measured.write(test_it="def test_one(): pass\ndef test_two(): pass\n")
    seen = []
    for isolate in ([], ["--isolate-all"]):
        result = measured.run("-v", "--cov=test_it", *isolate)
        assert [line.split()[0] for line in result.outlines if "PASSED" in line] == [
            "test_it.py::test_one",
            "test_it.py::test_two",
        ]
        assert "unable to open database file" in result.stdout.str() + result.stderr.str()
        seen.append(result.ret)
    assert seen[1] == seen[0]
