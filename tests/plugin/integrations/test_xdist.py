"""Workers of pytest-xdist isolate; their channels to the controller are their own."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")


def test_under_xdist_the_workers_isolate_and_the_controller_has_the_table(project: Project) -> None:
    pytest.importorskip("xdist")
    project.write(
        test_it="""
        import os, warnings, pytest
        MAIN = os.getpid()
        class Mine(UserWarning): pass
        @pytest.mark.parametrize("number", range(6))
        def test_it(number, record_property):
            record_property("object", len)
            warnings.warn(Mine("mine"))
            assert os.getpid() != MAIN
        def test_crash(): os._exit(0)
        """
    )
    result = project.isolated("-n2")
    result.assert_outcomes(passed=6, failed=1, warnings=6)
    result.stdout.fnmatch_lines(
        ["isolate: all tests, in sandboxes of each xdist worker", "*isolated tests by*", "* test_it.py::test_it?0?"]
    )
    result.stdout.fnmatch_lines(["*exited with status 0 without a result*"])


def test_a_sandbox_of_an_xdist_worker_does_not_have_its_channel_to_the_controller(project: Project) -> None:
    project.write(
        conftest="""
        import os
        def pytest_configure(config):
            for plugin in config.pluginmanager.get_plugins():
                if type(plugin).__name__ == "WorkerInteractor":
                    io = plugin.channel.gateway._io
                    files = (io.infile, io.outfile)
                    os.environ["CHANNEL"] = " ".join(os.readlink(f"/proc/self/fd/{file.fileno()}") for file in files)
        """,
        test_it="""
        import os, pytest
        @pytest.mark.parametrize("number", range(4))
        def test_it(number):
            channel = os.environ["CHANNEL"].split()
            numbers = os.listdir("/proc/self/fd")
            mine = {os.path.realpath(f"/proc/self/fd/{name}").rpartition("/")[2] for name in numbers}
            assert len(channel) == 2 and all(name.startswith("pipe:") for name in channel)
            assert any(name.startswith("pipe:") for name in mine)  # the one for reports
            assert not mine & set(channel)
        """,
    )
    project.isolated("-n2").assert_outcomes(passed=4)


def test_a_worker_at_the_other_end_of_a_socket_isolates_and_keeps_its_channel(project: Project) -> None:
    pytest.importorskip("xdist")
    project.write(
        conftest="""
        import os
        def pytest_configure(config):
            for plugin in config.pluginmanager.get_plugins():
                if type(plugin).__name__ == "WorkerInteractor":
                    os.environ["CHANNEL"] = os.readlink(f"/proc/self/fd/{plugin.channel.gateway._io.sock.fileno()}")
        """,
        test_it="""
        import os, pytest
        @pytest.mark.parametrize("number", range(3))
        def test_it(number):
            numbers = os.listdir("/proc/self/fd")
            mine = {os.path.realpath(f"/proc/self/fd/{name}").rpartition("/")[2] for name in numbers}
            assert os.getpid() == 2 and os.environ["CHANNEL"].startswith("socket:")
            assert os.environ["CHANNEL"] not in mine
        """,
    )
    far = project.path.parent / "far"
    far.mkdir()
    server = [sys.executable, "-u", "-m", "execnet.script.socketserver", "127.0.0.1:0"]
    with subprocess.Popen(server, cwd=far, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            port = re.search(r"'127.0.0.1', (\d+)", process.stdout.readline())[1]  # type: ignore[index]
            here = str(project.path)
            result = project.isolated("-d", "--tx", f"socket=127.0.0.1:{port}", "--rsyncdir", here, here)
        finally:
            process.kill()

    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*isolated tests*", "*test_it.py::test_it?0?"])
    assert list(far.rglob("test_it.py"))  # it ran there


@pytest.mark.parametrize("options", [("--isolate-all",), ()])
def test_the_header_says_what_is_in_force_in_the_workers(project: Project, options: tuple[str, ...]) -> None:
    project.write(test_it="import pytest\n@pytest.mark.isolate\ndef test_it(): pass\ndef test_other(): pass")
    plain = [line for line in project.run(*options, "--isolate-jobs=1").outlines if line.startswith("isolate: ")]
    first = ["isolate: all tests, in sandboxes of each xdist worker"] if options else []

    lines = [line for line in project.run(*options, "--isolate-jobs=1", "-n2").outlines if line.startswith("isolate: ")]

    assert lines == [*first, *plain]


def test_the_header_says_what_is_not_in_force_in_the_workers(project: Project) -> None:
    project.fake_keeper()
    file = project.path / "fake_keeper_here.py"
    file.write_text(f"{file.read_text()}\nFakeKeeperHere.degraded = lambda *_: (('memory', 'no group'),)\n")
    project.write(test_it="import pytest\n@pytest.mark.isolate(memory='50M')\ndef test_it(): pass")

    result = project.run("-n2", "--isolate-unsupported=degrade")

    result.stdout.fnmatch_lines(["isolate: fake", "isolate: NOT in force (--isolate-unsupported=degrade): memory"])


def test_the_header_says_nothing_of_workers_that_isolate_nothing(project: Project) -> None:
    project.write(test_it="def test_it(): pass")

    project.run("-n2").stdout.no_fnmatch_line("isolate: *")
