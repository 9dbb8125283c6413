"""A run that is ended early: by exit(), by Ctrl-C, by a test that stops the session."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")


def test_pytest_exit_ends_the_run_with_its_message_and_status(project: Project) -> None:
    project.write(
        test_it="""
        import pytest
        def test_1(): pytest.exit("enough", 7)
        def test_2(): pass
        """
    )
    result = project.isolated()
    assert result.ret == 7
    result.stdout.fnmatch_lines(["*Exit: enough*"])
    result.assert_outcomes()


def test_ctrl_c_raised_in_a_test_ends_the_run(project: Project) -> None:
    project.write(
        test_it="""
        import pytest
        @pytest.fixture(scope="session")
        def wide():
            yield
            with open("torn_down", "w"): pass
        def test_1(wide): raise KeyboardInterrupt
        def test_2(wide): pass
        """
    )
    result = project.isolated()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*KeyboardInterrupt: in test_it.py::test_1*"])
    assert (project.path / "torn_down").exists()


@pytest.mark.parametrize(
    ("handler", "presses", "place"),
    [
        pytest.param(
            "default_int_handler", 1, "test_it.py:10: KeyboardInterrupt: in test_it.py::test_1", id="interrupted"
        ),
        pytest.param("SIG_IGN", 1, "test_it.py:10: KeyboardInterrupt: in test_it.py::test_1", id="going on"),
        pytest.param("SIG_IGN", 2, ": KeyboardInterrupt", id="going on, pressed twice"),
    ],
)
def test_ctrl_c_pressed_during_a_test_ends_the_run_and_shows_where_it_was(
    project: Project, handler: str, presses: int, place: str
) -> None:
    begun, torn_down = project.path / "begun", project.path / "torn_down"
    project.write(
        test_it=f"""
        import pytest, signal, time
        @pytest.fixture
        def narrow():
            yield
            with open("torn_down", "w"): pass
        @pytest.mark.isolate(writable=[{str(project.path)!r}])
        def test_1(narrow):
            signal.signal(signal.SIGINT, signal.{handler})
            with open({str(begun)!r}, "w"): pass
            time.sleep(30)
        """
    )
    process = project.pytester.popen(
        [sys.executable, "-m", "pytest", *project.options, "--isolate-all"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + 20
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    for _ in range(presses):
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert place in output.decode()
    assert torn_down.exists() == (handler == "default_int_handler")


def test_a_test_can_stop_the_session(project: Project) -> None:
    project.write(
        test_it="""
        def test_1(request): request.session.shouldstop = "seen enough"
        def test_2(): pass
        """
    )
    result = project.isolated()
    result.stdout.fnmatch_lines(["*Interrupted: seen enough*"])
    result.assert_outcomes(passed=1)
