"""Released projects' own tests end isolated as they do in a plain run, in the same order, with the same warnings and
covered lines: one test at a time, and two.

They are fetched with pip and take minutes, and are run by name: ``sh tests/run tests/suites [-k "NAME and jobs2"]``.
"""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")


@dataclass(frozen=True)
class Suite:
    """A release, and how its tests are run."""

    requirement: str
    arguments: str = "tests"
    needs: str = ""
    drop: str = ""  #: the folder of the source distribution that would hide the installed copy
    cover: str = ""  #: the package whose covered lines are compared
    at_least: int = 100  #: so many tests, lest a suite that does not start is "the same"
    plugins: tuple[str, ...] = ()


SUITES = [
    Suite(
        "attrs==26.1.0",
        "tests --hypothesis-seed=0",
        needs="cloudpickle pympler hypothesis",
        drop="src",
        cover="attr",
        at_least=1300,
        plugins=("hypothesispytest",),
    ),
    Suite("click==8.5.1", drop="src", cover="click", at_least=2400),
    Suite("diskcache==5.6.3", "tests --ignore=tests/test_djangocache.py", needs="django"),
    Suite("jinja2==3.1.6", needs="trio", drop="src", at_least=900),
    Suite("more-itertools==11.2.1", "--doctest-modules more_itertools tests", at_least=900),
    Suite("msgpack==1.2.4", "test", drop="msgpack"),
    Suite("pytest-mock==3.17.0", needs="mock", drop="src", plugins=("asyncio",)),
    Suite(
        "sqlite-utils==4.2.1",
        "tests --hypothesis-seed=0 --ignore=tests/test_cli.py",
        needs="hypothesis cogapp",
        cover="sqlite_utils",
        at_least=1200,
        plugins=("hypothesispytest",),
    ),
]


@pytest.mark.parametrize("jobs", [1, 2], ids=lambda jobs: f"jobs{jobs}")
@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.requirement.partition("=")[0])
def test_a_projects_own_tests_end_as_in_a_plain_run(
    project: Project, suite: Suite, jobs: int, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = tmp_path_factory.mktemp("fetched")
    install(suite, fetched / "site")
    unpack(suite, fetched, project.path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(fetched / "site"), os.environ["PYTHONPATH"]]))
    monkeypatch.setenv("PATH", f"{fetched / 'site' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    project.load(*suite.plugins)
    project.patience = 1200
    faulthandler.cancel_dump_traceback_later()  # of faulthandler_timeout, which is for what hangs

    plain = observed(project, suite)
    isolated = observed(project, suite, "--isolate-all", f"--isolate-jobs={jobs}")

    assert len({test for test, *_ in plain.reports}) >= suite.at_least
    assert isolated.reports == plain.reports
    assert isolated.warnings == plain.warnings
    assert isolated.covered == plain.covered


@dataclass(frozen=True)
class Observed:
    """What of a run must not depend on isolation."""

    reports: list[tuple[Any, ...]]  #: test, phase, outcome, xfail, sub-test, what was captured; in the order of logging
    warnings: Counter[str]
    covered: dict[str, list[int]]  #: lines by file


def observed(project: Project, suite: Suite, *options: str) -> Observed:
    coverage = project.path / "coverage.json"
    coverage.unlink(missing_ok=True)
    if suite.cover:
        options += (f"--cov={suite.cover}", f"--cov-report=json:{coverage}")
    records = project.records(*options, *suite.arguments.split())
    files = json.loads(coverage.read_text())["files"] if suite.cover else {}
    return Observed(
        reports=[
            (
                record["test"],
                record["when"],
                record["outcome"],
                record["xfail"],
                record["subtest"] != "None",  # its values may be drawn by chance
                sorted(name for name, text in record["sections"] if name.startswith("Captured") and text),
            )
            for record in records
            if "when" in record
        ],
        warnings=Counter(record["category"] for record in records if "warning" in record),
        covered={name: file["executed_lines"] for name, file in files.items()},
    )


def install(suite: Suite, site: Path) -> None:
    """The release and what its tests need, into a folder of its own, beside this environment's pytest and plugins."""
    constraint = site.with_name("constraints.txt")
    constraint.write_text(f"pytest=={pytest.__version__}\n")
    pip("install", "--target", site, "-c", constraint, suite.requirement, *suite.needs.split())


def unpack(suite: Suite, folder: Path, into: Path) -> None:
    """The tests, which are in the source distribution only."""
    name = suite.requirement.partition("=")[0]
    pip("download", "--no-deps", "--no-binary", name, "--dest", folder / "source", suite.requirement)
    (archive,) = (folder / "source").iterdir()
    subprocess.run(["tar", "-xf", archive, "-C", into, "--strip-components=1", "--no-same-owner"], check=True)
    if suite.drop:
        shutil.rmtree(into / suite.drop)


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *map(str, arguments)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
