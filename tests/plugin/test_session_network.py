"""The network of ``--isolate-session``: its own, with a way out or none, or the host's; and what goes through."""

from __future__ import annotations

import socket
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.project import Project
from tests.support.servers import SERVERS, on_the_host
from tests.support.session_runs import PATIENCE, start
from tests.support.traces import NOTHING, settled

pytestmark = pytest.mark.needs("sandbox")


def test_a_port_of_the_host_is_reached_through_both_sandboxes(project: Project) -> None:
    with on_the_host() as port:
        project.write(
            servers=SERVERS,
            test_it=f"""
            import pytest
            from servers import heard

            @pytest.mark.no_isolate
            def test_from_the_session(): assert heard({port}) == "the host"

            def test_from_a_test(): assert heard({port}) == "the host"
            """,
        )
        options = [f"--isolate-session-host-port={port}", f"--isolate-host-port={port}"]
        output = start(project, "--isolate-all", *options).communicate(timeout=PATIENCE)[0]

    assert "2 passed" in output, output
    assert settled() == NOTHING


@pytest.mark.parametrize("network", ["none", "host"])
def test_a_server_in_a_folder_that_is_bound_through_is_reached_unless_it_may_be_the_hosts(
    project: Project, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    with TemporaryDirectory(prefix="isolate-through-") as folder:  # a short path, as a socket's must be
        monkeypatch.setenv("PLACE", f"{folder}/s")
        project.write(
            test_it="""
            import os, socket
            import pytest

            @pytest.fixture(scope="session", autouse=True)
            def server():
                with socket.socket(socket.AF_UNIX) as server:
                    server.bind(os.environ["PLACE"])
                    server.listen()
                    yield

            def test_it(request):
                with socket.socket(socket.AF_UNIX) as client:
                    reached = client.connect_ex(os.environ["PLACE"]) == 0
                assert reached == (request.config.getoption("isolate_session_network") == "none")
            """
        )
        options = [f"--isolate-session-writable={folder}", f"--isolate-session-network={network}"]
        result = project.isolated("--isolate-session", *options)

        result.assert_outcomes(passed=1)
        assert Path(folder, "s").exists()


NAMES = """
    import os, socket
    def test_it(): assert ([name for _, name in socket.if_nameindex()] == ["lo"]) == (os.environ["NETWORK"] == "none")
"""


@pytest.mark.parametrize("network", ["none", "host", pytest.param("nat", marks=pytest.mark.needs("nat"))])
def test_it_has_a_network_of_its_own_with_a_way_out_or_none_or_the_hosts(
    project: Project, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    if [name for _, name in socket.if_nameindex()] == ["lo"]:
        pytest.skip("this machine has no network beside its loopback")
    monkeypatch.setenv("NETWORK", network)
    project.write(test_it=NAMES)

    project.run("--isolate-session", f"--isolate-session-network={network}").assert_outcomes(passed=1)


def test_it_is_on_no_bridge(project: Project) -> None:
    result = project.run("--isolate-session", "--isolate-session-network=bridge")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: command line: --isolate-session-network: 'bridge': allowed are none, nat, host."]
    )
