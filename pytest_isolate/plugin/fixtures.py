"""For tests that want to know the sandbox they run in: the fixture ``isolated``, which the plugin provides.

::

    @pytest.mark.isolate(memory="50M")
    def test_it(isolated: pytest_isolate.testing.Isolated) -> None:
        assert isolated.in_force("memory")
        work()
        assert isolated.usage().memory_peak_bytes < 40_000_000
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from pytest_isolate.linux.calls import calls

if TYPE_CHECKING:
    from pytest_isolate.session.cluster import Network, Networks
    from pytest_isolate.session.keeper import Keeper
    from pytest_isolate.testing import Isolated

#: In ``config.stash``: gives the keeper of this process.
KEEPER: pytest.StashKey[Callable[[], Keeper]] = pytest.StashKey()
#: In ``config.stash``: is called with what the host lacks, and skips the test if the user has asked for that.
ON_LACK: pytest.StashKey[Callable[[Exception], object]] = pytest.StashKey()
#: In ``config.stash``: ports of the host's loopback that fixtures have opened to sandboxes.
OPEN_PORTS: pytest.StashKey[set[int]] = pytest.StashKey()
#: In ``config.stash``: gives the pids of tests that run; only where several do at a time.
RUNNING: pytest.StashKey[Callable[[], set[int]]] = pytest.StashKey()
#: In ``config.stash``, where tests may run side by side: what this process had open before collection: standard input,
#: what xdist's worker and plugins talk through, the files of pytest's capture. See :func:`list_descriptors`.
FIRST_DESCRIPTORS: pytest.StashKey[frozenset[tuple[int, int, int]]] = pytest.StashKey()
#: In ``config.stash``, where tests may run side by side: the filters of warnings that are in force between tests.
FILTERS: pytest.StashKey[list[Any]] = pytest.StashKey()
#: In ``config.stash``, where tests may run side by side: how many have run alone, by what they reach.
ALONE: pytest.StashKey[dict[str, int]] = pytest.StashKey()
#: In ``config.stash`` inside a sandbox.
ISOLATED: pytest.StashKey[Isolated] = pytest.StashKey()


def list_threads() -> frozenset[str]:
    """Threads of this process that the kernel knows, also those of libraries (proc_pid_task(5)); none elsewhere."""
    try:
        return frozenset(calls.listdir("/proc/self/task"))
    except OSError:
        return frozenset()


def list_descriptors() -> frozenset[tuple[int, int, int]]:
    """What this process has open: number, device, inode (proc_pid_fd(5)); none where that cannot be seen."""
    found = []
    with suppress(OSError):
        for number in map(int, calls.listdir("/proc/self/fd")):
            with suppress(OSError):  # the listing's own, which is closed
                status = calls.fstat(number)
                found.append((number, status.st_dev, status.st_ino))
    return frozenset(found)


#: Threads that there were before pytest loaded anything of the project, the main one and those of xdist's worker, by
#: their numbers: the kernel's, and Python's.
FIRST_THREADS = list_threads(), frozenset(calls.frames())


def forget_first_threads() -> None:
    """In a process that goes on where another was: the kernel has another number for it."""
    global FIRST_THREADS  # noqa: PLW0603 - it is found out at import, and once more here
    FIRST_THREADS = list_threads(), frozenset(calls.frames())


@pytest.fixture
def isolated(pytestconfig: pytest.Config) -> Isolated:
    """The sandbox that this test runs in: its limits, whether a key is in force, what it has used so far."""
    from pytest_isolate.testing import Isolated  # noqa: PLC0415 - not at each start of pytest

    return pytestconfig.stash.get(ISOLATED, Isolated())


@pytest.fixture(scope="session")
def isolate_open_port(pytestconfig: pytest.Config) -> Callable[[int | str], None]:
    """``isolate_open_port(port)`` lets tests reach a port of the host's loopback, as if each had it in ``host_ports``.

    For servers that a higher-scoped fixture has another program start, at a port that nobody knows before: a
    container's, published by Docker's daemon. From the next test on, and until the session's end.

    The function raises ``ValueError`` if that is no port, and ``RuntimeError`` inside a sandbox, which it cannot open.
    """

    def open_port(port: int | str) -> None:
        from pytest_isolate.spec import lists  # noqa: PLC0415 - not at each start of pytest

        if ISOLATED in pytestconfig.stash:
            msg = f"port {port} cannot be opened from inside: call isolate_open_port in a fixture of higher scope"
            raise RuntimeError(msg)
        pytestconfig.stash[OPEN_PORTS].update(lists.ports([port]) or ())

    return open_port


@pytest.fixture(scope="session")
def isolate_network_factory(pytestconfig: pytest.Config) -> Iterator[Networks]:
    """Makes networks for higher-scoped fixtures: ``isolate_network_factory("NAME")`` is one.

    Isolated tests with ``network="bridge:NAME"`` are on it, too, and reach its nodes by their names.
    """
    from pytest_isolate.session.cluster import Networks  # noqa: PLC0415 - loads the C core

    networks = Networks(pytestconfig.stash[KEEPER], pytestconfig.stash[ON_LACK])
    yield networks
    networks.close()


@pytest.fixture
def isolate_network(isolate_network_factory: Networks, pytestconfig: pytest.Config) -> Iterator[Network]:
    """A network for the life of this test, on which it makes nodes: see :class:`pytest_isolate.Network`.

    For tests that run in pytest's own process, as it is they who look at all nodes from outside.
    """
    if ISOLATED in pytestconfig.stash:
        pytest.fail(
            "isolate_network is for tests outside of sandboxes, whose nodes are sandboxes: mark this one no_isolate. "
            'An isolated test with network="bridge:NAME" is on a network that a higher-scoped fixture has made by '
            "isolate_network_factory(NAME).",
            pytrace=False,
        )
    with isolate_network_factory() as network:
        yield network
