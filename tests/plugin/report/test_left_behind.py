"""What a test leaves behind is told, or fails it."""

from __future__ import annotations

import re

import pytest

from tests.support.project import Project

LEAKING = """
    import os, socket, subprocess, sys, threading, time
    import pytest

    def test_leaves_a_process():
        subprocess.Popen(["sleep", "600"])

    def test_leaves_a_server():
        server = socket.create_server(("127.0.0.1", 8080))
        threading.Thread(target=server.accept, name="server", daemon=True).start()
        globals()["server"] = server

    def test_leaves_shared_memory():
        os.close(os.open("/dev/shm/left", os.O_CREAT | os.O_RDWR))

    def test_leaves_semaphores():
        import ctypes
        assert ctypes.CDLL(None).semget(0, 1, 0o600) >= 0

    def test_leaves_a_file():
        os.close(os.open("/var/tmp/isolate-left", os.O_CREAT | os.O_RDWR))

    def test_connects():
        for _ in range(2):
            with pytest.raises(OSError):
                socket.create_connection(("192.0.2.1", 80))

    def test_looks_a_name_up():
        with pytest.raises(OSError):
            socket.getaddrinfo("www.example.com", 443)

    def test_starts_a_program_that_connects():
        code = "import socket; socket.create_connection(('192.0.2.1', 80))"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 1

    def test_fails_and_leaves_a_process():
        subprocess.Popen(["sleep", "601"])
        assert 0
"""
CLEAN = """
    import os, socket, subprocess, sys, threading, time
    import pytest

    @pytest.fixture
    def server():
        server = socket.create_server(("127.0.0.1", 0))
        process = subprocess.Popen(["sleep", "600"])
        thread = threading.Thread(target=time.sleep, args=(0.05,))
        thread.start()
        yield
        process.terminate()  # and waits for neither
        server.close()

    def test_fixture_ends_what_it_started(server, tmp_path):
        (tmp_path / "file").write_text("")
        os.makedirs("/var/tmp/__pycache__/isolate")

    def test_helpers_of_multiprocessing_end_by_themselves():
        import multiprocessing
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            assert pool.map(abs, [-1]) == [1]
        context.Lock()

    @pytest.mark.isolate(leaks=["fail", "process:sleep", "file:/var/tmp/isolate-*"])
    def test_allowed():
        subprocess.Popen(["/bin/sleep", "600"])
        os.mkdir("/var/tmp/isolate-left")

    @pytest.mark.isolate(leaks=["fail", "network:*.example.com", "network:192.0.2.*"])
    def test_places_that_are_allowed():
        for host in ("www.example.com", "192.0.2.1"):
            with pytest.raises(OSError):
                socket.create_connection((host, 80))

    def test_itself_is_no_place_on_the_network():
        for host in ("127.0.0.1", "::1", "localhost", socket.gethostname()):
            with pytest.raises(OSError):  # refused; or a kernel without IPv6
                socket.create_connection((host, 80))

    @pytest.mark.isolate(leaks="off")
    def test_not_asked():
        subprocess.Popen(["sleep", "600"])
"""


@pytest.mark.needs("sandbox")
def test_each_kind_of_leak_fails_the_tear_down_of_its_test_and_no_other(project: Project) -> None:
    project.write(test_leaking=LEAKING, test_clean=CLEAN)

    result = project.isolated("--isolate-leaks=fail", "--junitxml=junit.xml")

    result.assert_outcomes(passed=14, failed=1, errors=8)
    text = re.sub(r"\d+\.\d s\b", "N s", result.stdout.str())
    for line in (
        "process sleep 600 (for N s)",
        "port 127.0.0.1:8080 (of the test itself), thread server (daemon)",
        "ipc /dev/shm/left",
        "ipc semaphores 0",
        "file /var/tmp/isolate-left (added)",
        "network 192.0.2.1:80 (2 times)",
        "network www.example.com:443",
        "network unknown (1 packets without a route, of a program)",
    ):
        assert f'left behind (leaks="fail"): {line}\n' in text
    assert re.search(r"- Left behind -+\nprocess sleep 601 ", text)
    assert "test_leaking.py::test_leaves_a_process: process sleep 600 (for N s)\n" in text
    assert "test_clean" not in text.partition("left something behind")[2]
    assert 'name="isolate_leaks" value="ipc semaphores 0"' in (project.path / "junit.xml").read_text()


def test_a_wrong_word_is_a_usage_error_with_its_place(project: Project) -> None:
    project.write(test_it="def test_it(): pass")

    result = project.isolated("--isolate-leaks=fails", "-oisolate_leaks=report\nprot:80")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: command line: --isolate-leaks: leaks=*'fails' is none of them*Did you mean fail?",
            "ERROR: command line: -o isolate_leaks: leaks=*'prot:80' is none of them*Did you mean port?",
        ]
    )
