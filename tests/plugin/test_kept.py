"""What outlives a sandbox as it outlives a plain run: directories of ``tmp_path``, and examples that failed."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

pytestmark = pytest.mark.needs("sandbox")

WRITERS = """
import os, pytest

@pytest.fixture(scope="session")
def wide(tmp_path_factory):
    path = tmp_path_factory.mktemp("wide")
    (path / "theirs").write_text("as made")
    return path

def test_passes(tmp_path, wide):
    (tmp_path / "passed").write_text("p")
    (wide / "theirs").write_text("changed")

def test_fails(tmp_path, wide):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_bytes(bytes(range(256)))
    (tmp_path / "deep" / "er" / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("deep/er")
    assert 0

def test_fails_in_set_up(tmp_path, missing): pass

class TestSameName:
    def test_passes(self, tmp_path): pass
"""


def kept(project: Project, monkeypatch: pytest.MonkeyPatch, *options: str) -> dict[str, str]:
    """Mode and content of all that is there after a run, by path."""
    base = project.path / f"temporary{len(options)}"
    base.mkdir()
    monkeypatch.setenv("PYTEST_DEBUG_TEMPROOT", str(base))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *project.options, *options]
    project.pytester.run(*command).assert_outcomes(passed=2, failed=1, errors=1)
    found = {}
    for path in base.rglob("*"):
        content = os.readlink(path) if path.is_symlink() else path.read_bytes().hex() if path.is_file() else ""
        found[str(path.relative_to(base))] = f"{path.lstat().st_mode:o} {content.removeprefix(str(base))}"
    return found


@pytest.mark.parametrize("policy", ["all", "failed", "none"])
def test_directories_of_tmp_path_are_kept_as_the_policy_of_a_plain_run_says(
    project: Project, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    project.write(test_it=WRITERS)
    option = ["-o", f"tmp_path_retention_policy={policy}"]
    plain, isolated = kept(project, monkeypatch, *option), kept(project, monkeypatch, *option, "--isolate-all")
    theirs = {path: plain.pop(path) for path in [*plain] if path.endswith("/theirs")}
    assert {path: isolated.pop(path) for path in [*isolated] if path.endswith("/theirs")} == {
        path: f"100644 {b'as made'.hex()}"
        for path in theirs  # the test has no hold of what is outside
    }
    assert isolated == plain
    files = {path.rpartition("/")[2] for path in isolated}
    assert ("file" in files, "passed" in files) == {
        "all": (True, True),
        "failed": (True, False),
        "none": (False, False),
    }[policy]


def test_what_a_dying_test_had_written_is_kept_too(project: Project) -> None:
    project.write(
        test_it="""
        import os
        def test_it(tmp_path):
            (tmp_path / "file").write_text("here")
            os.mkfifo(tmp_path / "fifo")
            (tmp_path / "secret").mkdir(0)
            os.chmod(tmp_path / "file", 0o4755)
            with open(tmp_path / "sparse", "wb") as file:
                file.seek(1 << 40); file.write(b"end")
            os.kill(os.getpid(), 9)
        """
    )
    project.isolated("--basetemp=base").assert_outcomes(failed=1)
    kept = project.path / "base" / "test_it0"
    assert (kept / "file").read_text() == "here"
    assert stat.S_IMODE((kept / "file").stat().st_mode) == 0o755
    assert (kept / "sparse").stat().st_size == (1 << 40) + 3
    assert (kept / "sparse").stat().st_blocks < 1000
    assert not (kept / "fifo").exists()


def test_an_example_that_failed_is_tried_again_in_the_next_run(project: Project) -> None:
    project.load("hypothesispytest")
    project.write(
        test_it="""
        from hypothesis import given, settings, strategies
        from hypothesis.database import DirectoryBasedExampleDatabase
        @given(strategies.integers())
        @settings(max_examples=200)
        def test_it(number):
            if number > 1000: open("tried", "a").write(f"{number}\\n")
            assert number <= 1000
        def test_other(): pass
        """
    )
    options = ["--isolate-writable=tried"]
    tried = project.path / "tried"
    tried.touch()
    project.isolated(*options).assert_outcomes(failed=1, passed=1)
    shrunk = tried.read_text().split()[-1]
    assert (project.path / ".hypothesis" / "examples").is_dir()
    tried.write_text("")

    project.isolated(*options).assert_outcomes(failed=1, passed=1)

    assert tried.read_text().split()[0] == shrunk
