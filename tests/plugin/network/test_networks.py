"""Bridges and networks of nodes, as a user meets them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.support.project import Project

REPOSITORY = Path(__file__).parents[3]

pytestmark = pytest.mark.needs("sandbox", "netns")

CLUSTER = """
    import os, socket
    import pytest

    def serve():
        server = socket.create_server(("", 80))
        if os.fork() == 0:
            while True:
                connection, _ = server.accept()
                connection.sendall(socket.gethostname().encode())
                connection.close()

    def heard(host):
        with socket.create_connection((host, 80), timeout=5) as connection:
            return connection.recv(100).decode()

    @pytest.fixture(scope="module")
    def cluster(isolate_network_factory):
        network = isolate_network_factory("cluster")
        for name in ("one", "two"):
            network.node(name).run(serve)
        return network

    @pytest.mark.isolate(network="bridge:cluster", hostname="client")
    def test_reaches_the_nodes_of_its_network(cluster):
        assert [heard("one"), heard("two")] == ["one", "two"]
        assert cluster.nodes["one"].ip == socket.gethostbyname("one")
        with pytest.raises(RuntimeError, match="mark the test no_isolate"):
            cluster.cut("one", "two")
        cluster.close()

    @pytest.mark.isolate(network="bridge")
    def test_reaches_no_node_of_another(cluster):
        with pytest.raises(OSError):
            heard(cluster.nodes["one"].ip)
        with pytest.raises(OSError):
            heard("one")

    @pytest.mark.no_isolate
    def test_handles_the_nodes(cluster):
        assert cluster.nodes["one"].run(heard, "two") == "two"
        names = cluster.nodes["one"].run(["cat", "/etc/hosts"], capture_output=True, text=True).stdout
        assert "client" not in names

    @pytest.mark.no_isolate
    def test_has_a_network_of_its_own(isolate_network):
        node = isolate_network.node("one")
        node.run(serve)
        assert node.run(heard, "one") == "one"
        assert list(isolate_network.nodes) == ["one"]

    @pytest.mark.isolate
    def test_inside(isolate_network):
        pass
"""


def test_fixtures_make_networks_for_tests_outside_and_inside_of_each_xdist_worker(project: Project) -> None:
    project.write(test_cluster=CLUSTER, test_again=CLUSTER)

    result = project.run("-n2", "--dist=loadfile", "--isolate-all")

    result.assert_outcomes(passed=8, errors=2)
    result.stdout.fnmatch_lines(["*isolate_network is for tests outside of sandboxes*mark this one no_isolate.*"])


BROKEN = """
    from pytest_isolate.sandbox import helper_process
    helper_process.START = "import sys; sys.modules['pyroute2'] = None; " + helper_process.START
"""
NEEDING = """
    import pytest, socket

    @pytest.mark.isolate(network="bridge")
    def test_bridged():
        assert [name for _, name in socket.if_nameindex()][0] == "lo"

    @pytest.mark.no_isolate
    def test_nodes(isolate_network):
        isolate_network.node("one")

    @pytest.mark.isolate
    def test_other(): pass
"""
REASON = r"network cannot be enforced here: cannot import pyroute2 .*pip install pyroute2"


@pytest.mark.parametrize(
    ("unsupported", "outcomes"),
    [
        ("error", {"passed": 1, "errors": 1, "failed": 1}),
        ("skip", {"passed": 1, "skipped": 2}),
        ("degrade", {"passed": 2, "failed": 1}),
    ],
)
def test_a_host_without_bridges_is_told(project: Project, unsupported: str, outcomes: dict[str, int]) -> None:
    project.write(conftest=BROKEN, test_needing=NEEDING)

    result = project.run(f"--isolate-unsupported={unsupported}", "-rs")

    result.assert_outcomes(**outcomes)
    shown = result.stdout.str()
    assert re.search(r"NOT in force .*network" if unsupported == "degrade" else REASON, shown.replace("\n", " "))


def test_neither_pyroute2_nor_networks_are_loaded_where_no_test_has_one(project: Project) -> None:
    project.write(
        test_it="""
        import sys
        import pytest

        @pytest.mark.isolate
        def test_inside(): pass

        def test_outside():
            heavy = {"pyroute2", "pytest_isolate.session.cluster", "pytest_isolate.session.network.broker"}
            assert not heavy & set(sys.modules)
        """
    )

    project.run().assert_outcomes(passed=2)


def test_the_examples_of_the_documentation_and_the_cluster_work(project: Project) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (REPOSITORY / "docs/networks.md").read_text(), re.DOTALL | re.MULTILINE
    )
    blocks = [block for block in blocks if '"nat"' not in block]  # that one needs the internet
    assert len(blocks) == 3
    for number, block in enumerate(blocks):
        (project.path / f"test_docs_{number}.py").write_text(block)
    for file in (REPOSITORY / "examples/cluster").glob("*.py"):
        shutil.copy(file, project.path)

    result = project.run("-k", "not takes_nothing_with_it and not read_at_all")

    result.assert_outcomes(passed=4, deselected=2)
