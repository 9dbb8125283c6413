"""With ``--isolate-session``: the files that other plugins are told to write are there as after a plain run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.neighbourhood import Neighbourhood

#: For each plugin: what it is loaded as, its options, and a file that it writes.
WRITERS = {
    "pytest-html": ("pytest_metadata.plugin pytest_html.plugin", "--html=sub/page.html", "sub/assets/style.css"),
    "pytest-json-report": ("pytest_metadata.plugin pytest_jsonreport.plugin", "--json-report", ".report.json"),
    "pytest-reportlog": ("pytest_reportlog.plugin", "--report-log=log.jsonl", "log.jsonl"),
    "pytest-bdd": ("pytest_bdd.plugin", "--cucumberjson=it.json", "it.json"),
    "pytest-memray": ("pytest_memray.plugin", "--memray --memray-bin-path=memory", "memory/"),
    "pytest-json-ctrf": ("ctrf.main", "--ctrf=it.json", "it.json"),
    "pytest-split": ("pytest_split.plugin", "--store-durations", ".test_durations"),
    "pytest-profiling": ("pytest_profiling", "--profile", "prof/test_it.prof"),
    "pytest-testmon": ("testmon.pytest_testmon", "--testmon -p cacheprovider", ".testmondata"),
}
BENCHMARK = "--benchmark-json=all.json --benchmark-cprofile=tottime --benchmark-cprofile-dump=sub/of"


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.needs("sandbox", name)) for name in WRITERS])
def test_its_files_are_there(neighbours: Neighbourhood, name: str) -> None:
    plugins, options, file = WRITERS[name]
    neighbours.load(*plugins.split())
    neighbours.project.write(test_it="def test_it(): pass")
    assert any(file in path for path in files_alike(neighbours, *options.split()))


@pytest.mark.needs("sandbox", "pytest-benchmark")
def test_files_of_pytest_benchmark_are_there(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_benchmark.plugin")
    neighbours.project.write(test_it="def test_it(benchmark): benchmark.pedantic(int)")
    assert {"all.json", "sub/of-test_it.prof"} <= files_alike(neighbours, *BENCHMARK.split())


@pytest.mark.needs("sandbox", "syrupy")
def test_snapshots_are_updated_where_that_is_asked_for(neighbours: Neighbourhood) -> None:
    neighbours.load("syrupy")
    neighbours.project.write(test_it="def test_it(snapshot): assert snapshot == 5")
    neighbours.project.run("--isolate-session").assert_outcomes(failed=1)
    assert not (neighbours.path / "__snapshots__").exists()
    assert files_alike(neighbours, "--snapshot-update") == {"__snapshots__/test_it.ambr"}


@pytest.mark.needs("sandbox", "pytest-playwright")
def test_what_is_kept_of_a_browser_is_there(neighbours: Neighbourhood) -> None:
    neighbours.load("pytest_playwright.pytest_playwright")
    neighbours.project.write(
        test_it="""
        import pathlib
        def test_it(output_path):
            folder = pathlib.Path(output_path)
            folder.mkdir(parents=True)
            (folder / "trace.zip").touch()
        """
    )
    assert any(path.endswith("/trace.zip") for path in files_alike(neighbours, "--output=browsers"))


def files_alike(neighbours: Neighbourhood, *options: str) -> set[str]:
    """The files that a run in a session sandbox makes, once a plain run has made as many of their kinds."""
    made = []
    for arguments in (options, ("--isolate-session", *options)):
        before = files(neighbours.path)
        neighbours.project.run("test_it.py", *arguments).assert_outcomes(passed=1)
        made.append(files(neighbours.path) - before)
        for name in made[-1]:
            (neighbours.path / name).unlink()
    plain, session = made
    assert {Path(name).suffix for name in session} == {Path(name).suffix for name in plain}
    assert len(session) == len(plain)
    return session


def files(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(folder)) for path in paths if ".pytest_cache" not in path.parts}
