"""gevent and eventlet patch whole modules, freezegun the clock: in pytest's process or inside."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood

pytestmark = pytest.mark.needs("sandbox")

_TESTS = """
    import select, socket, subprocess, time
    import pytest

    def test_it(record_property):
        record_property("name", "value")
        time.sleep(0.01)
        assert subprocess.run(["true"]).returncode == 0

    def test_fails(): assert not socket.__name__

    def test_server():
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            server.accept()[0].sendall(b"x")
            assert client.recv(9) == b"x"

    def test_large(): print("x" * 300_000)
"""


@pytest.fixture(autouse=True)
def _patient(neighbours: Neighbourhood) -> None:
    neighbours.project.patience = 60


@pytest.mark.needs("gevent")
@pytest.mark.parametrize("where", ["conftest", "test_it"])
def test_gevent_may_patch_everything(neighbours: Neighbourhood, where: str) -> None:
    patch = "    from gevent import monkey\n    monkey.patch_all()\n"
    files = {"conftest": "", "test_it": _TESTS}
    files[where] = patch + files[where]
    neighbours.project.write(**files)
    assert "1 failed, 3 passed" in neighbours.same()


@pytest.mark.needs("eventlet")
@pytest.mark.parametrize("where", ["conftest", "test_it"])
def test_eventlet_may_patch_everything(neighbours: Neighbourhood, where: str) -> None:
    files = {"conftest": "", "test_it": _TESTS}
    files[where] = "    import eventlet\n    eventlet.monkey_patch()\n" + files[where]
    neighbours.project.write(**files)
    # It warns of each fork, which our tests are.
    assert "1 failed, 3 passed" in neighbours.same("-W", "ignore:Using fork", "-W", "ignore:.*Eventlet is deprecated")


@pytest.mark.needs("freezegun")
@pytest.mark.parametrize("scope", ["function", "class", "session"])
def test_a_frozen_clock_is_frozen_for_tests_alone(neighbours: Neighbourhood, scope: str) -> None:
    neighbours.project.write(
        test_it=f"""
        import time
        import freezegun
        import pytest

        @pytest.fixture(scope="{scope}")
        def frozen():
            with freezegun.freeze_time("2020-01-01"):
                yield

        def test_it(frozen): assert time.gmtime().tm_year == 2020
        def test_fails(frozen): assert time.time() == 0
        """
    )
    assert "1 failed, 1 passed" in neighbours.same("-p", "no:terminalprogress")


@pytest.mark.needs("freezegun")
def test_a_frozen_clock_stops_no_time_out(neighbours: Neighbourhood) -> None:
    neighbours.project.write(
        test_it="""
        import freezegun
        import pytest

        @pytest.fixture(scope="session", autouse=True)
        def frozen():
            with freezegun.freeze_time("2020-01-01"):
                yield

        @pytest.mark.isolate(timeout=0.3)
        def test_it():
            while True: pass
        """
    )
    neighbours.project.isolated().stdout.fnmatch_lines(["E * exceeded timeout=0.3 s*"])
