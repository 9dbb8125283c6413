"""Servers on the host's loopback: those of the session's fixtures are reached inside, others by request, no more."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

pytestmark = pytest.mark.needs("sandbox", "netns")

#: A server that tells its name to whoever connects, in this process, a child of it, or one that has left the tree.
SERVERS = """
import contextlib, os, socket, subprocess, sys, threading

class Server:
    def __init__(self, name, host="127.0.0.1", port=0):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, port), family=family, dualstack_ipv6=host == "::")
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, args=(name.encode(),), daemon=True).start()

    def serve(self, name):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                with sock:
                    sock.sendall(name)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

def main(name):
    server = Server(name)
    print(server.port, flush=True)
    sys.stdin.read()

def child(name, *, leave=False):
    # With leave, as a daemon does: the process that was started forks, and ends; its child has another parent then.
    fork = "os.fork() and os._exit(0); os.setsid(); " if leave else ""
    code = f"import os, servers; {fork}servers.main({name!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.port = int(process.stdout.readline())
    return process

def heard(port, host="127.0.0.1"):
    with socket.create_connection((host, port), timeout=20) as sock:
        return sock.recv(100).decode()

def refused(port, host="127.0.0.1"):
    try:
        heard(port, host)
    except ConnectionRefusedError:
        return True
    return False
"""

#: Sessions' servers of all kinds, and tests of them.
SUITE = """
import pytest
from servers import *

@pytest.fixture(scope="session")
def thread():
    server = Server("a thread")
    yield server.port
    server.close()

@pytest.fixture(scope="session")
def live_server():
    with child("a child") as process:
        yield process.port

@pytest.fixture(scope="session")
def daemon():
    with child("a daemon", leave=True) as process:
        yield process.port

@pytest.fixture(scope="module")
def both():
    return Server("both", "::").port

@pytest.mark.parametrize("number", range(3))
def test_all(thread, live_server, daemon, both, number):
    assert [heard(port) for port in (thread, live_server, daemon, both)] == ["a thread", "a child", "a daemon", "both"]
    assert heard(both, "::1") == "both"
    assert heard(thread, "localhost") == "a thread"
    assert refused(thread, "127.0.0.2") and refused(thread, "::1")
"""


@contextmanager
def on_the_host() -> Iterator[int]:
    """A server that is no part of the session that is tested; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    sock.sendall(b"the host")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["one after another", "two workers"])
def test_servers_of_wider_fixtures_are_reached_at_their_own_ports(project: Project, options: list[str]) -> None:
    if options:
        pytest.importorskip("xdist")
    project.write(servers=SERVERS, test_it=SUITE)
    project.run(*options).assert_outcomes(passed=3)
    project.isolated(*options).assert_outcomes(passed=3)


def test_an_xdist_worker_reaches_what_the_controller_or_another_worker_serves(project: Project) -> None:
    pytest.importorskip("xdist")
    project.write(
        servers=SERVERS,
        conftest="""
        import os
        from servers import Server
        def pytest_configure(config):
            if not hasattr(config, "workerinput"):
                os.environ["PORT"] = str(Server("controller").port)
        """,
        test_it="""
        import time, pytest
        from servers import *
        @pytest.fixture(scope="session", autouse=True)
        def shared(worker_id):
            # Each tells the other where it serves.
            with open(f"{worker_id}.new", "w") as file: file.write(str(Server(worker_id).port))
            os.rename(f"{worker_id}.new", worker_id)
            while not (os.path.exists("gw0") and os.path.exists("gw1")): time.sleep(0.01)
        @pytest.mark.parametrize("number", range(4))
        def test_it(number):
            assert heard(int(os.environ["PORT"])) == "controller"
            assert [heard(int(open(name).read())) for name in ("gw0", "gw1")] == ["gw0", "gw1"]
        """,
    )
    project.isolated("-n", "2").assert_outcomes(passed=4)


def test_a_port_of_the_host_is_reached_where_it_is_listed_and_no_other_one_is(project: Project) -> None:
    with on_the_host() as listed, on_the_host() as other:
        project.write(
            servers=SERVERS,
            test_it=f"""
            import pytest
            from servers import *
            @pytest.fixture(scope="session", autouse=True)
            def own(): return Server("the session").port
            @pytest.mark.isolate(host_ports=[{listed}])
            def test_listed(own):
                assert heard({listed}) == heard({listed}, "localhost") == heard({listed}, "::1") == "the host"
                assert refused({other}) and heard(own) == "the session"
            def test_not_listed(own):
                assert refused({listed}) and refused({other}) and heard(own) == "the session"
            @pytest.mark.isolate(host_ports="none")
            def test_none(own):
                assert refused({listed}) and refused({other}) and refused(own)
            @pytest.mark.isolate(network="host")
            def test_host(own):
                assert heard({listed}) == heard({other}) == "the host" and heard(own) == "the session"
            """,
        )
        project.isolated().assert_outcomes(passed=4)


def test_a_fixture_opens_a_port_that_is_not_known_before(project: Project) -> None:
    with on_the_host() as opened:
        project.write(
            servers=SERVERS,
            test_it=f"""
            import pytest
            from servers import *
            @pytest.fixture(scope="module")
            def container(isolate_open_port):
                isolate_open_port("{opened}")  # as testcontainers gives it
            def test_before(): assert refused({opened})
            def test_opened(container): assert heard({opened}) == heard({opened}, "::1") == "the host"
            @pytest.mark.isolate(host_ports="none")
            def test_none(container): assert refused({opened})
            def test_not_from_inside(isolate_open_port):
                with pytest.raises(RuntimeError, match="port 80 cannot be opened from inside"): isolate_open_port(80)
            @pytest.mark.no_isolate
            def test_no_port(isolate_open_port):
                with pytest.raises(ValueError, match="'http' is no port"): isolate_open_port("http")
            """,
        )
        project.isolated().assert_outcomes(passed=5)


def test_the_option_and_the_ini_value_list_ports_for_all_tests(project: Project) -> None:
    with on_the_host() as first, on_the_host() as second:
        project.write(
            servers=SERVERS,
            test_it=f"""
            from servers import *
            def test_it(): assert [refused({first}), refused({second})] == eval(os.environ["WANTED"])
            """,
        )
        for options, wanted in (
            ([], [True, True]),
            ([f"--isolate-host-port={first}", f"--isolate-host-port={second}"], [False, False]),
            ([f"-oisolate_host_ports={second}"], [True, False]),
            ([f"-oisolate_host_ports={second}", "--isolate-host-port=none"], [True, True]),
        ):
            project.pytester._monkeypatch.setenv("WANTED", repr(wanted))
            project.isolated(*options).assert_outcomes(passed=1)


def test_a_port_is_held_while_its_server_lives_as_in_a_plain_run_and_free_after(project: Project) -> None:
    project.write(
        servers=SERVERS,
        test_a="""
        import errno, pytest
        from servers import *
        @pytest.fixture(scope="module")
        def server():
            server = Server("a", port=int(os.environ["PORT"]))
            yield server.port
            server.close()
        def test_it(server):
            assert heard(server) == "a"
            with pytest.raises(OSError) as caught: Server("b", port=server)
            assert caught.value.errno == errno.EADDRINUSE
        """,
        test_b="""
        from servers import *
        def test_it():
            assert heard(Server("b", port=int(os.environ["PORT"])).port) == "b"
        """,
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        project.pytester._monkeypatch.setenv("PORT", str(taken.getsockname()[1]))
    project.run().assert_outcomes(passed=2)
    project.isolated().assert_outcomes(passed=2)


def test_a_server_that_a_test_outside_has_left_running_is_reached(project: Project) -> None:
    project.write(
        servers=SERVERS,
        test_it="""
        import pytest
        from servers import *
        ports = []
        def test_before(): pass
        @pytest.mark.no_isolate
        def test_outside(): ports.append(Server("left").port)
        def test_inside(): assert heard(ports[0]) == "left"
        """,
    )
    project.isolated().assert_outcomes(passed=3)


def test_a_large_answer_and_a_hundred_clients_at_once_come_through(project: Project) -> None:
    project.write(
        test_it="""
        import concurrent.futures, hashlib, http.server, os, threading, urllib.request, pytest
        DATA = os.urandom(4 << 20)
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body[::-1])
            def log_message(self, *_): pass
        class HTTPServer(http.server.ThreadingHTTPServer):
            request_queue_size = 200
        @pytest.fixture(scope="session")
        def url():
            with HTTPServer(("127.0.0.1", 0), Handler) as server:
                threading.Thread(target=server.serve_forever).start()
                yield f"http://localhost:{server.server_port}"
                server.shutdown()
        def test_large(url):
            assert urllib.request.urlopen(url, DATA).read() == DATA[::-1]
        def test_many(url):
            pieces = [str(number).encode() * 1000 for number in range(100)]
            with concurrent.futures.ThreadPoolExecutor(100) as pool:
                assert list(pool.map(lambda piece: urllib.request.urlopen(url, piece).read()[::-1], pieces)) == pieces
        """
    )
    project.isolated().assert_outcomes(passed=2)


def test_a_forwarder_that_is_killed_costs_one_test_at_most(project: Project) -> None:
    project.write(
        servers=SERVERS,
        test_it="""
        import glob, pytest, signal
        from servers import *
        @pytest.fixture(scope="module")
        def server(): return Server("here").port
        def test_1(server): assert heard(server) == "here"
        @pytest.mark.no_isolate
        def test_kill():
            mine = f"for={os.getpid()}".encode()
            for name in glob.glob("/proc/[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    words = open(name, "rb").read().split(b"\\0")
                    if mine in words and any(word.endswith(b"forwarder.py") for word in words):
                        os.kill(int(name.split("/")[2]), signal.SIGKILL)
                        return
            pytest.fail("no forwarder")
        def test_2(server): pass
        def test_3(server): assert heard(server) == "here"
        """,
    )
    outcomes = project.isolated().parseoutcomes()
    assert outcomes["passed"] + outcomes.get("errors", 0) == 4
    assert outcomes["passed"] >= 3


def test_no_test_holds_a_socket_of_ours_and_there_is_a_forwarder_only_when_there_is_something_to_forward(
    project: Project,
) -> None:
    project.write(
        servers=SERVERS,
        test_it="""
        import pytest
        from servers import *
        def sockets():
            links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
            return sum(os.path.exists(link) and "socket" in os.readlink(link) for link in links)
        before = sockets()  # one to the builder among them
        inside = before - 1 + 1  # without that, and with the test's own line to pytest
        @pytest.fixture(scope="module")
        def server(): return child("here").port
        def test_alone(): assert sockets() == inside
        @pytest.mark.no_isolate
        def test_without(): assert sockets() == before
        def test_served(server): assert sockets() == inside and heard(server) == "here"
        @pytest.mark.isolate(host_ports="none")
        def test_closed(server): assert sockets() == inside
        @pytest.mark.no_isolate
        def test_with(server): assert sockets() == before + 1
        """,
    )
    project.isolated().assert_outcomes(passed=5)


def test_a_unix_socket_is_reached_where_its_folder_is_bound_through(project: Project) -> None:
    folder = project.path / "sockets"
    folder.mkdir()
    project.write(
        test_it=f"""
        import pytest, socket, threading
        PATH = "sockets/s"  # the whole path may be longer than a socket's may be
        @pytest.fixture(scope="session")
        def server():
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(PATH)
                listener.listen()
                threading.Thread(target=lambda: listener.accept()[0].sendall(b"here"), daemon=True).start()
                yield
        @pytest.mark.isolate(writable={str(folder)!r})
        def test_bound(server):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(PATH)
                assert client.recv(10) == b"here"
        def test_copied(server):
            with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
                client.connect(PATH)
        """
    )
    project.isolated().assert_outcomes(passed=2)
