"""Without root, folders of the host cannot be renamed: what works all the same, and what the failure says."""

from __future__ import annotations

import os
from typing import Any

import pytest

pytestmark = pytest.mark.needs("sandbox")
_TESTS = """
import os, pathlib, shutil, subprocess
import pytest

@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    path = tmp_path_factory.mktemp("repository")
    (path / "a").mkdir()
    (path / "a" / "f").write_text("1")
    return path

@pytest.mark.isolate
def test_rename(repository):
    (repository / "a").rename(repository / "b")
    assert (repository / "b" / "f").read_text() == "1"

@pytest.mark.isolate
def test_program(repository):
    script = f"import os; os.rename('{repository}/a', '{repository}/b')"
    subprocess.run(["python3", "-c", script], check=True)

@pytest.mark.isolate
def test_move(repository):
    shutil.move(repository / "a", repository / "b")
    assert not (repository / "a").exists()
    subprocess.run(["mv", "b", "c"], cwd=repository, check=True)
    assert (repository / "c" / "f").read_text() == "1"

@pytest.mark.isolate
def test_own(repository, tmp_path):
    for folder in (repository, tmp_path):
        (folder / "new").mkdir()
        (folder / "new" / "f").touch()
        (folder / "new").rename(folder / "newer")

@pytest.mark.isolate
def test_file(repository):
    (repository / "a" / "f").rename(repository / "f")

@pytest.mark.isolate(writable="bound")
def test_bound():
    pathlib.Path("bound/a").rename("bound/b")
"""


def test_without_root_the_failure_of_a_rename_says_why_and_the_ways_out_work(project: Any) -> None:
    project.pytester.makepyfile(_TESTS)
    (project.path / "bound/a").mkdir(parents=True)
    command = [*map(str, project.pytester._getpytestargs()), "-p", "no:cacheprovider", "-v"]
    result = project.pytester.run("unshare", "--user", "--map-root-user", "--mount", *command)

    result.assert_outcomes(passed=4, failed=2)
    result.stdout.fnmatch_lines(["*test_rename FAILED*", "*test_program FAILED*"])
    assert result.stdout.str().count("Where the header says rootless, rename(2) refuses a folder") == 2
    assert (project.path / "bound/b").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="for root it works")
def test_as_root_all_of_it_works(project: Any) -> None:
    project.pytester.makepyfile(_TESTS)
    (project.path / "bound/a").mkdir(parents=True)
    project.run().assert_outcomes(passed=6)
