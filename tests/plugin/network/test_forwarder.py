"""The forwarder: what it carries, how long it lives, and what its death costs."""

from __future__ import annotations

import pytest

from tests.support.project import Project
from tests.support.servers import SERVERS

pytestmark = pytest.mark.needs("sandbox", "netns")


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
                    if mine in words and any(b"network.forwarder " in word for word in words):
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
    project.isolated("--isolate-jobs=1").assert_outcomes(passed=5)
