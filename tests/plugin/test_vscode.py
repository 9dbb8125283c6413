"""The test explorer of VS Code: its plugin hears of all outcomes in pytest's process, which has its pipe."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.project import Project

PATIENCE = 120
#: The hooks of the extension's plugin, and how it opens the pipe when it has something to tell.
PLUGIN = """
    import os, pytest
    told, pipe = set(), None

    def tell(nodeid, outcome):
        global pipe
        if nodeid not in told:
            told.add(nodeid)
            pipe = pipe or open(os.environ["TEST_RUN_PIPE"], "w")
            print(nodeid.partition("::")[2], outcome, file=pipe, flush=True)

    def pytest_exception_interact(node, call, report):
        tell(node.nodeid, "failure" if call.excinfo.typename == "AssertionError" else "error")

    @pytest.hookimpl(hookwrapper=True, trylast=True)
    def pytest_report_teststatus(report, config):
        if report.when == "call" or (report.when == "setup" and report.skipped):
            tell(report.nodeid, report.outcome)
        yield

    @pytest.hookimpl(hookwrapper=True, trylast=True)
    def pytest_runtest_protocol(item, nextitem):
        yield
"""
PROGRAM = "import sys, pytest\nsys.path.insert(0, '')\npytest.main(sys.argv[1:])\n"
TESTS = """
    import os
    import pytest

    @pytest.fixture(params=["passes", "fails", "raises"])
    def set_up(request):
        assert request.param != "fails"
        if request.param == "raises": raise ValueError

    @pytest.fixture
    def torn_down(): yield; raise ValueError

    def test_fails(): assert 0
    def test_is_set_up(set_up): pass
    def test_is_torn_down(torn_down): pass
    def test_knows_no_such_fixture(unknown): pass
    @pytest.mark.skip
    def test_is_skipped(): pass
    @pytest.mark.xfail
    def test_fails_as_expected(): assert 0
    def test_passes(): pass
"""
DIES = """
    import os
    import pytest
    @pytest.fixture
    def dies(): os._exit(1)
    def test_dies_in_its_set_up(dies): pass
    def test_dies(): os._exit(1)
"""

pytestmark = pytest.mark.needs("sandbox")


@pytest.fixture
def explorer(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project.write(vscode_pytest=PLUGIN)
    folder = project.path / "vscode_pytest"
    folder.mkdir()
    (folder / "run_pytest_script.py").write_text(
        "import sys, pytest\nsys.path.insert(0, '')\npytest.main(sys.argv[1:])"
    )
    monkeypatch.setenv("TEST_RUN_PIPE", str(project.path / "pipe"))
    os.mkfifo(project.path / "pipe")
    project.options += ["-p", "vscode_pytest"]
    return project


def told(project: Project, *options: str, program: tuple[str, ...] = ("-m", "pytest")) -> list[str]:
    """What a run tells the editor."""
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.extend(Path(project.path, "pipe").read_text().splitlines()))
    reader.start()
    command = [sys.executable, *program, *project.options, *options, "test_it.py"]
    try:
        subprocess.run(command, check=False, cwd=project.path, timeout=PATIENCE, stdout=subprocess.DEVNULL)
    finally:
        os.close(os.open(project.path / "pipe", os.O_RDWR | os.O_NONBLOCK))  # in case that nobody has opened it
        reader.join(PATIENCE)
    return read


@pytest.mark.parametrize("options", [["--isolate-all", "--isolate-jobs=2"], ["--isolate-session"]], ids=" ".join)
def test_the_editor_is_told_what_it_is_told_by_a_plain_run(explorer: Project, options: list[str]) -> None:
    explorer.write(test_it=TESTS)
    assert (plain := told(explorer))[0] == "test_fails failed"
    assert told(explorer, *options) == plain
    assert len(plain) == 9


def test_the_editor_is_told_of_tests_that_died(explorer: Project) -> None:
    explorer.write(test_it=DIES)
    assert told(explorer, "--isolate-all") == ["test_dies_in_its_set_up failed", "test_dies failed"]


def test_the_hooks_of_the_editor_do_not_keep_tests_from_running_side_by_side(explorer: Project) -> None:
    explorer.write(test_it=TESTS)
    assert "at a time (" not in "\n".join(explorer.isolated("--isolate-jobs=2", "--collect-only").outlines)


def test_the_program_of_the_editor_that_calls_pytest_goes_on_in_a_session_sandbox(explorer: Project) -> None:
    explorer.write(test_it="import os\ndef test_it(): open('left', 'w'); assert os.getpid() == 32")
    assert told(explorer, "--isolate-session", program=("vscode_pytest/run_pytest_script.py",)) == ["test_it passed"]
    assert not Path(explorer.path, "left").exists()
