"""Handles of processes that fixtures of higher scope have started: a test hears the truth, and can end none."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")

#: A process that goes on, and one that ends as soon as a test tells it to.
SERVERS = """
import asyncio, contextlib, multiprocessing, os, signal, subprocess, sys, time
import pytest

@pytest.fixture(scope="session")
def server():
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    assert process.poll() is None
    process.kill()
    process.wait()

@pytest.fixture(scope="module", params=["exit 3", "kill -9 $$"])
def ending(request):
    process = subprocess.Popen(["sh", "-c", f"read line; {request.param}"], stdin=subprocess.PIPE)
    process.expected = {"exit 3": 3}.get(request.param, -9)
    yield process
    process.stdin.write(b"\\n")
    assert process.wait() == process.expected

def end(process): os.write(process.stdin.fileno(), b"\\n")
def refused(): return pytest.raises(PermissionError, match="outside of this test's sandbox.*isolate_fixtures_inside")
"""


def passes(project: Project, number: int, tests: str, *arguments: str) -> None:
    project.write(test_it=SERVERS + tests)
    project.isolated(*arguments).assert_outcomes(passed=number)


def test_a_popen_says_that_its_process_runs(project: Project) -> None:
    passes(
        project,
        3,
        """
def test_poll(server): assert server.poll() is server.returncode is None
def test_wait(server):
    with pytest.raises(subprocess.TimeoutExpired): server.wait(0.2)
    with pytest.raises(subprocess.TimeoutExpired): server.communicate(timeout=0.2)
def test_repr(server): assert "returncode: None" in repr(server)
""",
    )


@pytest.mark.parametrize("call", ["terminate()", "kill()", "send_signal(signal.SIGINT)"])
def test_a_popen_cannot_end_it_and_says_why(project: Project, call: str) -> None:
    passes(
        project,
        1,
        f"""
def test_end(server):
    with refused() as error: server.{call}
    assert "sleep 1000" in str(error.value)
    assert server.poll() is None
""",
    )


def test_a_process_that_ends_while_a_test_runs_is_known_with_its_status(project: Project) -> None:
    passes(
        project,
        4,
        """
def test_waits_for_it(ending):
    assert ending.poll() is None
    end(ending)
    assert ending.wait() == ending.poll() == ending.expected
    ending.terminate()
def test_has_ended_before(ending): assert ending.poll() == ending.expected
""",
        "--isolate-jobs=2",  # they run one after the other all the same
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_multiprocessing_process_says_that_it_is_alive(project: Project, method: str) -> None:
    passes(
        project,
        3,
        f"""
@pytest.fixture(scope="session")
def worker():
    worker = multiprocessing.get_context({method!r}).Process(target=time.sleep, args=(1000,))
    worker.start()
    yield worker
    assert worker.is_alive()
    worker.kill()
    worker.join()

def test_alive(worker):
    worker.join(0.1)
    assert worker.is_alive() and worker.exitcode is None
    assert worker in multiprocessing.active_children()
def test_end(worker):
    for end in (worker.terminate, worker.kill):
        with refused(): end()
def test_own(worker):
    own = multiprocessing.get_context({method!r}).Process(target=time.sleep, args=(1000,))
    own.start()
    assert {{own, worker}} <= {{*multiprocessing.active_children()}}
    own.kill()
    own.join()
    assert own.exitcode == -9 and not own.is_alive() and own not in multiprocessing.active_children()
""",
    )


def test_a_multiprocessing_process_that_has_ended_is_not_alive(project: Project) -> None:
    passes(
        project,
        2,
        """
@pytest.fixture(scope="module")
def worker():
    event = multiprocessing.Event()
    worker = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(event.wait() + 6))
    worker.event = event
    worker.start()
    yield worker
    worker.join()
    assert worker.exitcode == 7

def test_ends(worker):
    worker.event.set()
    worker.join()
    assert worker.exitcode == 7 and not worker.is_alive()
def test_has_ended(worker): assert not worker.is_alive() and worker not in multiprocessing.active_children()
""",
    )


def test_a_process_of_asyncio_says_that_it_runs_and_when_it_has_ended(project: Project) -> None:
    passes(
        project,
        1,
        """
@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    loop.close()

@pytest.fixture(scope="module")
def process(loop):
    start = asyncio.create_subprocess_exec("sh", "-c", "read line; exit 3", stdin=subprocess.PIPE)
    process = loop.run_until_complete(start)
    yield process
    assert loop.run_until_complete(process.wait()) == 3

def test_runs(process):
    assert process.returncode is None
    for end in (process.kill, process.terminate, lambda: process.send_signal(signal.SIGINT)):
        with refused(): end()
    os.write(process._transport.get_pipe_transport(0).get_extra_info("pipe").fileno(), b"\\n")
    assert asyncio.new_event_loop().run_until_complete(process.wait()) == process.returncode in (3, 255)
""",
    )


def test_psutil_says_that_it_runs(project: Project) -> None:
    pytest.importorskip("psutil")
    passes(
        project,
        1,
        """
import psutil

@pytest.fixture(scope="session")
def known(server):
    process, seen = psutil.Popen(["sleep", "1000"]), psutil.Process(server.pid)
    yield process, seen
    assert process.poll() is None
    process.kill()
    process.wait()

def test_it(known):
    assert known[0].poll() is None
    for process in known:
        assert process.is_running()
        with refused(): process.kill()
        assert process.is_running()
""".replace(", params=[psutil.Popen, lambda words: psutil.Process(subprocess.Popen(words).pid)]", ""),
    )


@pytest.mark.parametrize("options", [[], ["--isolate-session"]], ids=" ".join)
def test_an_object_of_psutil_for_pytests_process_is_the_tests_own_inside(project: Project, options: list[str]) -> None:
    """In a session sandbox it has the same number."""
    pytest.importorskip("psutil")
    project.write(
        test_it="""
        import os, sys, threading, psutil, pytest

        PROCESS = psutil.Process()
        PROCESS.cpu_percent()  # remembers what it was told
        OUTSIDE = os.getpid()

        @pytest.fixture(scope="module")
        def process(): return psutil.Process(os.getpid())

        def test_descriptors():
            before = PROCESS.num_fds()
            with open(__file__):
                assert PROCESS.num_fds() == before + 1

        @pytest.mark.parametrize("ask", ["memory_info", "cpu_times", "cpu_percent", "open_files", "threads", "cmdline"])
        def test_each_question(ask, process):
            for each in PROCESS, process:
                getattr(each, ask)()

        def test_it_is_this_process(process):
            assert PROCESS == process == psutil.Process() and hash(PROCESS) == hash(psutil.Process())
            assert PROCESS.pid == os.getpid() and PROCESS.is_running() and f"pid={os.getpid()}" in repr(PROCESS)

        def test_in_a_fork_it_is_the_one_that_forked():
            own = os.getpid()
            child = os.fork()
            if not child:
                os._exit(PROCESS.pid != own)
            assert os.waitpid(child, 0) == (child, 0)

        def test_its_children():
            import subprocess
            with subprocess.Popen(["sleep", "1000"]) as started:
                try:
                    assert [each.pid for each in PROCESS.children()] == [started.pid]
                finally:
                    started.kill()

        def test_a_new_object_is_for_a_process_inside():
            assert psutil.Process(1).pid == 1
            assert psutil.Process(os.getpid()).is_running()
            if OUTSIDE != os.getpid():
                with pytest.raises(psutil.NoSuchProcess): psutil.Process(OUTSIDE)
        """
    )
    project.isolated(*options).assert_outcomes(passed=11)


def test_a_number_alone_says_that_the_process_runs(project: Project) -> None:
    """As ptyprocess and files of pids have it."""
    passes(
        project,
        1,
        """
def test_it(server):
    os.kill(server.pid, 0)
    assert os.waitpid(server.pid, os.WNOHANG) == (0, 0)
    with refused(): os.kill(server.pid, signal.SIGTERM)
    with pytest.raises(ChildProcessError): os.waitpid(-1, os.WNOHANG)
    with pytest.raises(ProcessLookupError): os.kill(2**22 - 1, 0)
""",
    )


def test_a_process_inside_of_the_same_number_is_not_taken_for_it(project: Project) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    project.write(
        test_it=SERVERS
        + """
def test_both(server):
    while (own := subprocess.Popen(["sleep", "1000"])).pid < server.pid:
        own.kill()
        own.wait()
    assert own.pid == server.pid
    assert server.poll() is own.poll() is None
    with refused(): server.kill()
    assert own.poll() is None
    own.kill()
    assert own.wait() == -9
    assert server.poll() is None
"""
    )
    inner = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *project.options, "--isolate-all"]
    warm_up = 'for i in 1 2 3 4 5 6 7 8 9; do /bin/true; done; exec "$@"'  # numbers that a sandbox has not given yet
    command = ["unshare", "--user", "--map-current-user", "--pid", "--fork", "--mount-proc", "sh", "-c", warm_up, "sh"]
    done = subprocess.run([*command, *inner], capture_output=True, text=True, check=False, timeout=60, cwd=project.path)
    if "unshare: " in done.stderr:
        pytest.skip(done.stderr)

    assert "1 passed" in done.stdout, done.stdout + done.stderr
