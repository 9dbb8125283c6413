"""What fixtures and conftest.py files patch in pytest's process does not reach the keeper, nor what the child sends."""

from __future__ import annotations

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")

#: As suites patch them: "no network in tests", a fake clock, a fake disk.
_TARGETS = """
    builtins.open builtins.print fcntl.fcntl io.open json.JSONDecoder.decode json.JSONEncoder.encode json.dumps
    json.loads os.access os.close os.environ.get os.fsencode os.getcwd os.getpid os.kill os.killpg os.listdir
    os.lstat os.memfd_create os.mkdir os.open os.path.exists os.path.isdir os.path.join os.pipe os.pipe2
    os.posix_spawn os.pread os.read os.readlink os.scandir os.set_blocking os.strerror os.sysconf os.unlink
    os.wait4 os.waitid os.waitpid os.write pathlib.Path.is_dir pathlib.Path.open pathlib.Path.read_bytes
    pathlib.Path.read_text select.epoll select.poll select.select shutil.rmtree signal.pidfd_send_signal
    signal.signal socket.create_connection socket.recv_fds socket.send_fds socket.socket socket.socket.recv
    socket.socket.send socket.socketpair subprocess.Popen subprocess.run tempfile.mkdtemp threading.Thread
    threading.active_count threading.enumerate time.monotonic time.sleep time.time
"""

_FIXTURE = """
import socket
from unittest import mock
import pytest

@pytest.fixture(scope="session", autouse=True)
def server():  # is served to tests by a program of its own
    with socket.create_server(("127.0.0.1", 0)):
        yield

@pytest.fixture(scope="{scope}", params={targets!r}.split())
def patched(request, server):
    with mock.patch(request.param, side_effect=RuntimeError("patched")):
        yield request.param
"""

_TESTS = """
import pkgutil
import warnings
import pytest

class TestIt:
    def test_sees_it(self, patched, record_property):
        record_property("name", patched)
        warnings.warn("one")
        with pytest.raises(RuntimeError, match="patched"):
            pkgutil.resolve_name(patched)()

    @pytest.mark.isolate(timeout=30, memory="100M")
    def test_with_limits(self, patched, isolated):
        assert not isolated or isolated.usage().wall_seconds
"""


def count(targets: str) -> int:
    return len(targets.split())


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["", "xdist"])
@pytest.mark.parametrize("scope", ["class", "session"])
def test_what_a_higher_scoped_fixture_patches_is_patched_for_tests_alone(
    project: Project, scope: str, workers: tuple[str, ...]
) -> None:
    project.patience = 120
    project.write(conftest=_FIXTURE.format(targets=_TARGETS, scope=scope), test_it=_TESTS)

    # -q, as otherwise pytest's own terminal compares paths, which from Python 3.12 on asks os.path.join
    project.isolated("-q", *workers).assert_outcomes(passed=2 * count(_TARGETS), warnings=count(_TARGETS))


#: What a time-out needs, and pytest's own report of it does not.
_AT_A_TIMEOUT = """
    builtins.open json.dumps os.close os.kill os.killpg os.listdir os.open os.pread os.read os.readlink os.waitpid
    os.wait4 os.write pathlib.Path.read_text select.poll signal.pidfd_send_signal socket.socket time.monotonic
    time.sleep
"""


def test_a_time_out_is_told_whatever_is_patched(project: Project) -> None:
    project.patience = 120
    project.write(
        conftest=_FIXTURE.format(targets=_AT_A_TIMEOUT, scope="class"),
        test_it="""
        import subprocess
        import pytest

        class TestIt:
            @pytest.mark.isolate(timeout=0.3)
            def test_it(self, patched):
                while True: pass
            def test_after(self, patched): pass
        """,
    )
    result = project.isolated()
    result.assert_outcomes(passed=count(_AT_A_TIMEOUT), failed=count(_AT_A_TIMEOUT))
    told = [line for line in result.outlines if line.startswith("E       Failed: exceeded timeout=0.3 s")]
    assert len(told) == count(_AT_A_TIMEOUT)
    assert result.stdout.str().count(" R (the test itself)") == count(_AT_A_TIMEOUT)


#: As a conftest.py file replaces functions for good, before the keeper is made.
_FOR_GOOD = """
    json.dumps os.kill os.pipe os.posix_spawn os.read os.waitpid select.poll socket.socket socket.socketpair
    subprocess.Popen threading.Thread time.monotonic time.sleep
"""
#: Those of them that execnet can do without.
_UNDER_XDIST = ("json.dumps", "select.poll", "socket.socket", "time.sleep")


@pytest.mark.parametrize(
    ("target", "workers"),
    [*((target, ()) for target in _FOR_GOOD.split()), *((each, ("-n1",)) for each in _UNDER_XDIST)],
)
def test_what_a_conftest_file_patches_for_good_is_patched_for_tests_alone(
    project: Project, target: str, workers: tuple[str, ...]
) -> None:
    project.patience = 60
    project.write(
        conftest=f"""
        from unittest import mock
        PATCH = mock.patch("{target}", side_effect=RuntimeError("patched"))
        def pytest_configure(): PATCH.start()
        def pytest_unconfigure(): PATCH.stop()
        """,
        test_it="""
        import pytest
        @pytest.mark.isolate
        def test_it(): pass
        @pytest.mark.isolate
        def test_after(): pass
        """,
    )
    project.run(*workers).assert_outcomes(passed=2)
