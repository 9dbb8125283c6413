"""A folder that is no single layer, as something is mounted below it: what fixtures make there is seen all the same."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

pytestmark = pytest.mark.needs("sandbox")
_TESTS = """
import os, pathlib, tempfile
import pytest

PLACE = pathlib.Path(os.environ["PLACE"])

@pytest.mark.isolate
def test_before():
    assert not list(PLACE.glob("made*"))

@pytest.fixture(scope="session")
def folder():
    with tempfile.TemporaryDirectory(dir=PLACE, prefix="made") as made:
        pathlib.Path(made, "settings").write_text("x")
        yield pathlib.Path(made)

@pytest.mark.isolate
def test_reads(folder):
    assert (folder / "settings").read_text() == "x"

@pytest.mark.isolate
def test_writes(folder):
    assert not (folder / "out").exists()
    (folder / "out").write_text("y")
    (PLACE / "made-inside").mkdir()

@pytest.mark.isolate
def test_writes_again(folder):
    test_writes(folder)

@pytest.fixture(scope="module")
def log(folder):
    with open(PLACE / "made.log", "w") as file:
        file.write("one")
        file.flush()
        yield file

@pytest.mark.isolate
def test_reads_a_file(log):
    assert (PLACE / "made.log").read_text() == "one"

@pytest.fixture(scope="module")
def more(log):
    log.write(" two")
    log.flush()

@pytest.mark.isolate
def test_reads_what_a_fixture_has_added(more):
    assert (PLACE / "made.log").read_text() == "one two"

@pytest.mark.isolate
def test_mount(more):
    assert (PLACE / ".mount_app/file").read_text() == "mounted\\n"
    (PLACE / ".mount_app/file").write_text("changed")
"""


@pytest.mark.parametrize("place", ["tmp", "home", "project"])
def test_what_a_fixture_makes_beside_a_mount_is_seen(place: str, project: Any) -> None:
    pytester = project.pytester
    pytester.makepyfile(_TESTS)
    folder = pytester.mkdir("place") if place != "project" else pytester.path
    mount = (
        f"mkdir {folder}/.mount_app; mount -t tmpfs none {folder}/.mount_app; echo mounted >{folder}/.mount_app/file"
    )
    variables = {"tmp": f"TMPDIR={folder}", "home": f"HOME={folder}", "project": ""}[place]
    command = [*map(str, pytester._getpytestargs()), "-p", "no:cacheprovider"]
    script = f"{mount}; export PLACE={folder} {variables}; exec {shlex.join(command)}"

    result = pytester.run("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script)

    result.assert_outcomes(passed=7)
    assert not list(folder.glob("made*/"))
