"""For tests that want to know the sandbox they run in: the fixture ``isolated``, which the plugin provides.

::

    @pytest.mark.isolate(memory="50M")
    def test_it(isolated: pytest_isolate.testing.Isolated) -> None:
        assert isolated.in_force("memory")
        work()
        assert isolated.usage().memory_peak_bytes < 40_000_000
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from pytest_isolate.keys import KEYS

if TYPE_CHECKING:
    from pytest_isolate.networks import Network, Networks
    from pytest_isolate.outcome import Usage
    from pytest_isolate.session import Keeper
    from pytest_isolate.spec import Limits, Spec

_CAPS = {"memory", "swap", "cpus", "cpuset", "pids", "timeout"}
_KEY_BEHIND = {"swap": "memory"}  # comes on top of it
_BY_NAMESPACES = {"disk", "network", "host_ports", "image", "hostname", "user", "writable"}


class Isolated:
    """The sandbox that a test runs in. False as a truth value if it runs in none, but in pytest's own process."""

    def __init__(
        self,
        spec: Spec | None = None,
        degraded: Mapping[str, str] = MappingProxyType({}),
        ask: Callable[[], Usage] | None = None,
    ) -> None:
        self.spec = spec  #: as it was asked for
        self.degraded = degraded  #: keys not in force, each with the reason
        self.ask = ask

    def __bool__(self) -> bool:
        """Whether there is a sandbox at all, with namespaces and a file system of its own."""
        return self.spec is not None and "isolate" not in self.degraded

    @property
    def limits(self) -> Limits:
        """Caps that were asked for, in bytes, cores, seconds; without a sandbox none."""
        from pytest_isolate.spec import Limits  # noqa: PLC0415 - not at each start of pytest

        return Limits() if self.spec is None else self.spec.limits

    def in_force(self, key: str) -> bool:
        """Whether what the test asked for by a key of the marker, or got by default, is enforced.

        A cap that nobody set is not in force. ``"isolate"`` stands for the sandbox as such.

        :raises ValueError: there is no such key.
        """
        if key != "isolate" and key not in KEYS:
            from pytest_isolate.values import nearest  # noqa: PLC0415 - not at each start of pytest

            raise ValueError(f"there is no key {key!r}; allowed are isolate, {', '.join(KEYS)}.{nearest(key, KEYS)}")
        if self.spec is None or key in self.degraded or _KEY_BEHIND.get(key) in self.degraded:
            return False
        if "isolate" in self.degraded and key in _BY_NAMESPACES:
            return False
        limits = self.spec.limits
        if key == "io":
            return limits.io_read is not None or limits.io_write is not None
        return key not in _CAPS or getattr(limits, _KEY_BEHIND.get(key, key)) is not None

    def usage(self) -> Usage:
        """What the test and all that it started have used so far; None for what the kernel does not tell.

        :raises RuntimeError: there is no sandbox, so nobody counts.
        """
        if self.ask is None:
            raise RuntimeError("this test runs in pytest's own process, where nobody counts what it uses")
        return self.ask()


#: In ``config.stash``: what gives the keeper of this process, and what to do about what the host lacks.
KEEPER: pytest.StashKey[Callable[[], Keeper]] = pytest.StashKey()
REFUSED: pytest.StashKey[Callable[[Exception], object]] = pytest.StashKey()
#: In ``config.stash``: ports of the host's loopback that fixtures have opened to sandboxes.
OPENED: pytest.StashKey[set[int]] = pytest.StashKey()
#: In ``config.stash`` inside a sandbox.
ISOLATED: pytest.StashKey[Isolated] = pytest.StashKey()


@pytest.fixture
def isolated(pytestconfig: pytest.Config) -> Isolated:
    """The sandbox that this test runs in: its limits, whether a key is in force, what it has used so far."""
    return pytestconfig.stash.get(ISOLATED, Isolated())


@pytest.fixture(scope="session")
def isolate_open_port(pytestconfig: pytest.Config) -> Callable[[int | str], None]:
    """``isolate_open_port(port)`` lets tests reach a port of the host's loopback, as if each had it in ``host_ports``.

    For servers that a fixture of wider scope has had started by somebody else, at a port that nobody knows before: a
    container's, published by Docker's daemon. From the next test on, and until the session's end.

    The function raises ``ValueError`` if that is no port, and ``RuntimeError`` inside a sandbox, which it cannot open.
    """

    def open_port(port: int | str) -> None:
        from pytest_isolate import values  # noqa: PLC0415 - not at each start of pytest

        if ISOLATED in pytestconfig.stash:
            msg = f"port {port} cannot be opened from inside: call isolate_open_port in a fixture of wider scope"
            raise RuntimeError(msg)
        pytestconfig.stash[OPENED].update(values.ports([port]) or ())

    return open_port


@pytest.fixture(scope="session")
def isolate_network_factory(pytestconfig: pytest.Config) -> Iterator[Networks]:
    """Makes networks for fixtures of a wider scope than a test: ``isolate_network_factory("NAME")`` is one.

    Isolated tests with ``network="bridge:NAME"`` are on it, too, and reach its nodes by their names.
    """
    from pytest_isolate.networks import Networks  # noqa: PLC0415 - loads the C core

    networks = Networks(pytestconfig.stash[KEEPER], pytestconfig.stash[REFUSED])
    yield networks
    networks.close()


@pytest.fixture
def isolate_network(isolate_network_factory: Networks, pytestconfig: pytest.Config) -> Iterator[Network]:
    """A network for the life of this test, on which it makes nodes: see :class:`pytest_isolate.networks.Network`.

    For tests that run in pytest's own process, as it is they who look at all nodes from outside.
    """
    if ISOLATED in pytestconfig.stash:
        pytest.fail(
            "isolate_network is for tests outside of sandboxes, whose nodes are sandboxes: mark this one no_isolate. "
            'An isolated test with network="bridge:NAME" is on a network that a wider-scoped fixture has made by '
            "isolate_network_factory(NAME).",
            pytrace=False,
        )
    with isolate_network_factory() as network:
        yield network
