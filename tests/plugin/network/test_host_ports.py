"""Servers on the host's loopback: those of the session's fixtures are reached inside, others by request, no more."""

from __future__ import annotations

import socket

import pytest

from tests.support.project import Project
from tests.support.servers import SERVERS, on_the_host

pytestmark = pytest.mark.needs("sandbox", "netns")


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


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["one after another", "two workers"])
def test_servers_of_higher_scoped_fixtures_are_reached_at_their_own_ports(project: Project, options: list[str]) -> None:
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
