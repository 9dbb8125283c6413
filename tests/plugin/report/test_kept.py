"""``--isolate-keep``: what a failed test wrote can be looked at later."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from pytest_isolate.__main__ import main
from tests.support.options import Options
from tests.support.project import Project

WRITING = """
    import os, shutil, sys

    def test_writes_and_fails():
        with open("text", "a") as file:
            file.write("new\\n")
        with open("binary", "wb") as file:
            file.write(b"\\0\\1\\2")
        shutil.rmtree("folder")
        os.makedirs("made/deep")
        with open("made/deep/\\x1b[31m", "w") as file:
            file.write("\\x1b[2J")
        os.symlink("/etc/passwd", "link")
        os.symlink("/etc", "made/etc")
        assert 0

    def test_writes_and_dies():
        with open("text", "w"):
            os._exit(3)

    def test_writes_and_passes():
        with open("passed", "w"):
            pass

    def test_fails_and_writes_nothing():
        assert 0
"""

pytestmark = pytest.mark.needs("overlay")


@pytest.fixture
def kept(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose layers are kept in a place of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(project.path / "cache"))
    project.write(test_it=WRITING)
    (project.path / "text").write_text("old\n")
    (project.path / "folder" / "within").mkdir(parents=True)
    return project


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    capsys.readouterr()
    assert main(["kept", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("jobs", ["--isolate-jobs=1", "--isolate-jobs=2"])
def test_the_layer_of_a_failed_test_is_kept_and_shown(
    kept: Project, capsys: pytest.CaptureFixture[str], jobs: str
) -> None:
    result = kept.isolated("--isolate-keep=failed", jobs, "-rA")

    commands = re.findall(r"^python -m pytest_isolate kept diff ([0-9a-f]{6})$", result.stdout.str(), re.MULTILINE)
    head, *rows = lines(capsys, "list")
    assert head.split() == ["ID", "WHEN", "RESULT", "SIZE", "FILES", "IMAGE", "TEST"]
    assert [row.split()[-1] for row in rows] == [
        "test_it.py::test_writes_and_fails",
        "test_it.py::test_writes_and_dies",
    ]
    assert commands == [row.split()[0] for row in rows]

    here = kept.path
    shown = lines(capsys, "diff", commands[0], str(here))
    assert f"removed folder {here}/folder" in shown
    assert f"binary file {here}/binary: nothing -> 3 bytes" in shown
    assert f"added link (to /etc/passwd) {here}/link" in shown
    start = shown.index(f"--- a{here}/text")
    assert shown[start + 1 : start + 5] == [f"+++ b{here}/text", "@@ -1 +1,2 @@", " old", "+new"]
    assert not any("\x1b" in line for line in shown)
    assert lines(capsys, "diff", "test_writes_and_dies", f"{here}/text")[-1] == "-old"
    files = lines(capsys, "files", commands[0])
    assert {f"M {here}/text", f"D {here}/folder", f"A {here}/made/deep/\\x1b[31m"} <= {*files}

    assert lines(capsys, "copy", commands[0], f"{here}/made", "out") == []
    assert (here / "out" / "deep" / "\x1b[31m").read_text() == "\x1b[2J"
    assert main(["kept", "copy", commands[0], f"{here}/made/etc/passwd", "passwd"]) == 1
    assert not Path("passwd").exists()
    assert lines(capsys, "remove", *commands) == [f"removed {each}" for each in commands]
    assert lines(capsys, "list")[0].startswith("No layer is kept")


def test_layers_are_private_and_the_user_s_and_bounded(kept: Project, capsys: pytest.CaptureFixture[str]) -> None:
    kept.write(
        conftest="""
        import os
        import pytest

        @pytest.fixture(scope="session", autouse=True)
        def other_home():
            os.environ["XDG_CACHE_HOME"] = "/nowhere"
        """
    )
    result = kept.isolated("--isolate-keep=all", "--isolate-keep-number=2", "-rA")

    result.stdout.fnmatch_lines("The layer is not kept: this session has kept 2 layers of *--isolate-keep-number=2*")
    assert len(lines(capsys, "list")) == 1 + 2
    store = kept.path / "cache" / "pytest-isolate-ns" / "kept-1"
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    owners = {Path(folder, name).lstat().st_uid for folder, _, names in os.walk(store) for name in names}
    assert owners == {os.geteuid()}


def test_nothing_is_kept_unless_it_is_asked_for(kept: Project) -> None:
    kept.write(
        conftest="""
        import sys
        def pytest_terminal_summary(terminalreporter):
            loaded = [name for name in sys.modules if name.startswith("pytest_isolate.session.kept")]
            terminalreporter.line(f"loaded: {loaded}")
        """
    )
    result = kept.isolated()
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.no_fnmatch_line("*Writable layer*")
    result.stdout.fnmatch_lines("loaded: [[][]]")
    assert not (kept.path / "cache").exists()


def test_wrong_values_are_usage_errors(options: Options) -> None:
    assert options.errors("--isolate-keep=some")[0].startswith("command line: --isolate-keep: ")
    assert options.errors("-oisolate_keep=some")[0].startswith("command line: -o isolate_keep: ")
    assert options.errors("--isolate-keep-number=0")[0].startswith("command line: --isolate-keep-number: ")
    assert options.errors("--isolate-keep-size=much")[0].startswith("command line: --isolate-keep-size: ")
