"""Several sandboxes on a network of their own, for tests of distributed systems: the fixture ``isolate_network``.

::

    def test_replication(isolate_network: pytest_isolate.session.cluster.Network) -> None:
        one, two = isolate_network.node("one", memory="100M"), isolate_network.node("two")
        server = one.popen(["server", "--port", "80"])
        two.run(["client", "http://one"], check=True)
        isolate_network.cut("one", "two")

Without pytest: ``with Network(keeper) as network: ...``
"""

from __future__ import annotations

import contextlib
import itertools
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_isolate.linux.calls import calls
from pytest_isolate.session.keeper import Keeper
from pytest_isolate.session.node import Node, check_process
from pytest_isolate.spec import sizes, values
from pytest_isolate.spec.errors import SetupError, SpecError, UnsupportedError
from pytest_isolate.spec.spec import Spec

if TYPE_CHECKING:
    from typing_extensions import Self

#: Keys of the contract that a node has no use for: the network is given, and its name is the host name.
_GIVEN = ("network", "hostname", "host_ports", "timeout")
_NEVER = 1e9  # seconds
_DURATION = re.compile(r"(\d+(?:\.\d*)?)\s?(us|ms|s)")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_HOUR = 3600.0


class Network:
    """A bridge of its own, and the nodes on it. Nothing outside is reached from it, nor it from outside.

    A context manager; its end is that of all nodes. It belongs to the process that made it.
    """

    def __init__(
        self, keeper: Keeper, name: str | None = None, *, refused: Callable[[UnsupportedError], object] = lambda _: None
    ) -> None:
        """A network without nodes.

        :param name: tests with ``network="bridge:NAME"`` are on it as well; None: only its nodes are.
        :param refused: called with what this host cannot do before it is raised.
        :raises ValueError: ``name`` cannot be one, or is that of another network that has not been closed.
        """
        if name is not None:
            values.network(f"bridge:{name}")
        if name in keeper.networks:
            raise ValueError(f"there is a network {name!r} already; choose another name, or close it first.")
        # A user's name has no "#". Numbers are used again: each name of a network costs a Plan for each name of a node.
        free = (f"#{number}" for number in itertools.count(1) if f"#{number}" not in keeper.networks)
        self._bridge = next(free) if name is None else name
        keeper.networks.add(self._bridge)
        self.pid = calls.getpid()
        self.nodes: dict[str, Node] = {}  #: by name, in the order in which they were made, with those that have ended
        self._made: list[Node] = []  # with those whose names others have taken
        self._keeper, self._refused = keeper, refused
        self._shape: dict[str, Any] = {"delay": 0.0, "loss": 0.0, "rate": None}
        self._cuts: set[frozenset[str]] = set()
        self._closed = False

    def __enter__(self) -> Self:
        """The network itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """:meth:`close`."""
        self.close()

    def node(self, name: str, **keys: object) -> Node:
        """Make a node, which all others of the network find under its name from now on.

        :param name: a host name, unique among the living nodes.
        :param keys: those of the marker that say what a sandbox has: ``memory``, ``cpus``, ``pids``, ``image``, ...
        :raises SpecError: a key or value is wrong. :raises UnsupportedError: the host can't enforce one.
        :raises SetupError: the node could not be built.
        """
        check_process(self.pid)
        place = f"node({name!r})"
        if self._closed:
            raise SetupError("make the node", name, 0, "Its network has been closed.")
        if wrong := [key for key in _GIVEN if key in keys]:
            raise SpecError(place, f"{wrong[0]} is no key of a node; leave it out.")
        if name in self.nodes and self.nodes[name].alive:
            raise SpecError(place, "there is a node of that name; choose another, or kill it first.")
        try:
            spec = Spec.of(calls.getcwd(), **keys, hostname=name, host_ports="none")
        except SpecError as error:
            raise SpecError(place, error.problem) from None
        # A time-out so far off stands for none; without one a node could not be frozen on v1 (cgroups/interface.py).
        limits = replace(spec.limits, timeout=_NEVER)
        spec = replace(spec, network=f"bridge:{self._bridge}", limits=limits)
        try:
            self._keeper.check(spec)
        except UnsupportedError as error:
            self._refused(error)
            raise
        degraded = dict(self._keeper.degraded(spec))
        if lacking := degraded.keys() & {"isolate", "network"}:
            raise UnsupportedError("network", degraded[lacking.pop()], "A node cannot do without.")
        self.nodes[name] = node = Node(self._keeper.sandboxes.hold(spec), self._keeper)
        self._made.append(node)
        for key, reason in degraded.items():
            warnings.warn(f"node {name}: {key} is not in force: {reason}", stacklevel=2)
        return node

    def cut(self, a: Node | str, b: Node | str) -> None:
        """Let nothing through between two nodes, in either direction; what they send each other is lost.

        Connections stay open, and go on after :meth:`heal` if their programs have waited. Broadcasts and multicasts
        are not held back.
        """
        one, other = self._living(a), self._living(b)
        if one is other:
            raise ValueError(f"cut({one.name!r}, {other.name!r}): a node cannot be cut off from itself")
        one.held().cut(other.held())
        self._cuts.add(frozenset((one.name, other.name)))

    def heal(self) -> None:
        """Undo every :meth:`cut`."""
        check_process(self.pid)
        for pair in self._cuts:
            one, other = (self.nodes[name] for name in sorted(pair))
            if one.alive and other.alive:
                one.held().heal(other.held())
        self._cuts.clear()

    def delay(self, time: float | str) -> None:
        """Let each packet to a node take longer by ``time``, seconds or ``"20ms"``, and so an answer by twice that.

        :raises UnsupportedError: the kernel lacks netem.
        """
        self._change(delay=_seconds(time))

    def loss(self, share: float) -> None:
        """Lose this share of all packets, 0.1 being one in ten, at random. 0 ends it.

        :raises UnsupportedError: the kernel lacks netem.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"loss({share!r}): allowed is a number from 0 to 1.")
        self._change(loss=float(share))

    def rate(self, bytes_per_second: int | str | None) -> None:
        """Let each node receive no more than this, in bytes per second: ``"10M"``, as ``io``. None lifts it.

        :raises UnsupportedError: the kernel has neither netem nor tbf.
        """
        try:
            rate = None if bytes_per_second is None else sizes.size(bytes_per_second, 1)
        except ValueError as error:
            raise ValueError(f"rate({bytes_per_second!r}): {error}") from None
        self._change(rate=rate)

    def close(self) -> None:
        """End all nodes, and the bridge. Harmless in another process, such as that of an isolated test."""
        if calls.getpid() != self.pid or self._closed:
            return
        self._closed = True
        for node in self._made:
            node.close()
        if self._made:
            with contextlib.suppress(SetupError):  # with the broker all bridges have gone
                self._keeper.sandboxes.bridges().drop(self._bridge)
        self._keeper.networks.discard(self._bridge)

    def _change(self, **shape: Any) -> None:
        check_process(self.pid)
        wanted = {**self._shape, **shape}
        try:
            self._keeper.sandboxes.bridges().shape(self._bridge, **wanted)
        except UnsupportedError as error:
            self._refused(error)
            raise
        self._shape = wanted

    def _living(self, node: Node | str) -> Node:
        check_process(self.pid)
        name = node if isinstance(node, str) else node.name
        if name not in self.nodes:
            raise ValueError(f"there is no node {name!r}; there are {', '.join(self.nodes) or 'none'}")
        self.nodes[name].held()
        return self.nodes[name]


class Networks:
    """Makes networks, for the fixtures; all that are left are closed at the end."""

    def __init__(self, keeper: Callable[[], Keeper], refused: Callable[[UnsupportedError], object]) -> None:
        self.pid = calls.getpid()
        self._keeper, self._refused = keeper, refused
        self._made: list[Network] = []

    def __call__(self, name: str | None = None) -> Network:
        """A new network, for the life of the session unless it is closed before.

        :param name: tests with ``network="bridge:NAME"`` are on it as well; None: only its nodes are.
        :raises UnsupportedError: no sandbox can be had here.
        """
        try:
            network = Network(self._keeper(), name, refused=self._refused)
        except UnsupportedError as error:
            self._refused(error)
            raise
        self._made.append(network)
        return network

    def close(self) -> None:
        """End all of them."""
        for network in self._made:
            network.close()


def _seconds(value: float | str) -> float:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return float(match[1]) * _UNITS[match[2]]
    if not isinstance(value, str | bool) and 0 <= value <= _HOUR:
        return float(value)
    raise ValueError(f'delay({value!r}): allowed are seconds as a number, or "20ms", "500us", "1.5s".')
