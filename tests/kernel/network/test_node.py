"""What runs in a node, with which rights and limits, and what of it is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_isolate.session.cluster import Network
from pytest_isolate.session.node import Node, NodeError
from pytest_isolate.spec.errors import SetupError, SpecError
from tests.support.in_nodes import heard, serve

pytestmark = pytest.mark.needs("sandbox", "netns")


def test_a_program_in_a_node_is_a_subprocess_like_any_other(network: Network, tmp_path: Path) -> None:
    node = network.node("one", env={"COLOUR": "red", "HOME": None})
    (tmp_path / "here").touch()

    script = "cat; ls; echo $COLOUR $HOME >&2; exit 3"
    done = node.run(["sh", "-c", script], input="in", capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (3, "inhere\n", "red\n")
    with pytest.raises(subprocess.CalledProcessError):
        node.run(["false"], check=True)
    with pytest.raises(subprocess.TimeoutExpired):
        node.run(["sleep", "100"], timeout=0.1)
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        node.run(["no-such-program"], env={"PATH": "/usr/bin:/bin"})  # all of which may be searched
    with pytest.raises(FileNotFoundError):
        node.run(["true"], cwd="/no/such/folder")
    with pytest.raises(TypeError, match="preexec_fn would act outside"):
        node.popen(["true"], preexec_fn=print)
    shell = node.popen(
        "echo $0 $$; exec sleep 100", shell=True, stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}
    )
    assert shell.stdout is not None
    assert shell.stdout.readline().split()[0] == b"/bin/sh"
    for number, how in ((signal.SIGTERM, shell.terminate), (signal.SIGKILL, node.popen(["sleep", "100"]).kill)):
        how()
        assert how.__self__.wait(10) == -number  # type: ignore[attr-defined]
    assert _left(node) == []


def _left(node: Node) -> list[str]:
    """Commands in a node but PID 1 and what asks."""
    found = node.run(["sh", "-c", "cat /proc/[0-9]*/comm"], capture_output=True, text=True).stdout.split()
    return [name for name in found if name not in ("isolate-init", "sh", "cat")]


def test_what_runs_in_a_node_has_no_more_rights_than_a_test(network: Network) -> None:
    node = network.node("one")
    names = ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp:", "NSpid")
    program = node.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout

    function = str(node.run(lambda: Path("/proc/self/status").read_text()))

    def lines(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith(names[:4])]

    assert lines(program) == lines(function)
    assert "NoNewPrivs:\t1" in program
    assert "Seccomp:\t2" in program
    assert node.run(["ls", "/proc/self/fd"], stdout=subprocess.DEVNULL).returncode == 0  # which takes being dumpable


def test_no_descriptor_of_another_node_gets_into_a_node(network: Network) -> None:
    nodes = [network.node(name) for name in ("one", "two", "three")]

    def links() -> list[str]:
        found = []
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/self/fd/{fd}"))
        return found

    mine = set(links())
    inside = set(nodes[0].run(links))
    assert not [link for link in inside - mine if "pidfd" in link or "cgroup" in link]
    assert not [link for link in inside if "pidfd" in link or link.endswith(("/tasks", "cgroup.procs"))]
    listed = nodes[1].run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True).stdout
    assert "pidfd" not in listed
    assert len([line for line in listed.splitlines() if " -> " in line]) == 4  # the standard ones, and that of ls


def test_a_function_that_raises_is_told_with_its_traceback(network: Network) -> None:
    def fails() -> None:
        raise LookupError("nothing there")

    node = network.node("one")
    with pytest.raises(NodeError, match=r"(?s)node one: raised LookupError: nothing there.*in fails"):
        node.run(fails)
    with pytest.raises(NodeError, match="killed by SIGKILL"):
        node.run(lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert node.run(lambda number: number + 1, 1) == 2


@pytest.mark.needs("memory")
def test_a_node_has_limits_of_its_own(network: Network) -> None:
    node = network.node("one", memory="50M")

    assert node.run([sys.executable, "-S", "-c", "b'x' * 200_000_000"]).returncode == -signal.SIGKILL
    peak = node.usage().memory_peak_bytes
    assert peak is not None
    assert 40 << 20 < peak <= 50 << 20


def test_traffic_of_each_node_is_counted(network: Network) -> None:
    one, two, idle = (network.node(name) for name in ("one", "two", "idle"))
    one.run(serve)
    before = two.usage()
    for _ in range(10):
        assert two.run(heard, "one") == "one"
    after = two.usage()

    assert 500 < after.bytes_out - before.bytes_out < 20_000
    assert after.packets_in - before.packets_in >= 30
    assert one.usage().packets_out >= 30
    assert idle.usage().bytes_out < 2000
    assert after.wall_seconds > before.wall_seconds


@pytest.mark.needs("freezer")
def test_a_frozen_node_stands_still_until_it_is_thawed(network: Network) -> None:
    one, two = network.node("one"), network.node("two")
    one.run(serve)

    one.freeze()
    frozen = two.run(heard, "one", 0.3)
    for what in (["true"], int):
        with pytest.raises(SetupError, match=r"cannot enter the node on one\. It is frozen; thaw\(\) it first"):
            one.run(what)
    one.thaw()

    assert frozen == "TimeoutError"
    assert two.run(heard, "one") == "one"
    one.freeze()
    one.kill()  # also dies when frozen


def test_a_stopped_node_has_time_to_end_and_its_name_is_gone(network: Network) -> None:
    one, two = network.node("one"), network.node("two")
    loop = "echo up; while :; do sleep .05; done"
    trap, stubborn = (
        one.popen(f"trap '{what}' TERM; {loop}", shell=True, stdout=subprocess.PIPE)
        for what in ("echo bye; exit 5", "")
    )
    for process in (trap, stubborn):
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"

    one.stop(patience=0.5)

    assert trap.communicate() == (b"bye\n", None)
    assert (trap.returncode, stubborn.returncode) == (5, -signal.SIGKILL)
    assert "one" not in two.run(["cat", "/etc/hosts"], capture_output=True, text=True).stdout
    with pytest.raises(SetupError, match=r"cannot enter the node on one\. It has been stopped or killed"):
        one.run(["true"])
    with pytest.raises(SetupError, match="It has been stopped or killed"):
        network.cut("one", "two")
    assert network.node("one").run(lambda: "again") == "again"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"memroy": "50M"}, "there is no key 'memroy'.*Did you mean memory"),
        ({"memory": "lots"}, "memory='lots': allowed is"),
        ({"network": "host"}, "network is no key of a node"),
        ({"name": "a b"}, "hostname='a b': allowed are letters"),
        ({"name": "twice"}, "there is a node of that name"),
    ],
)
def test_a_wrong_node_is_told(network: Network, keys: dict[str, str], problem: str) -> None:
    network.node("twice")
    with pytest.raises(SpecError, match=problem):
        network.node(**{"name": "one", **keys})
