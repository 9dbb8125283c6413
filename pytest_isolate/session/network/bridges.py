"""Networks of bridged sandboxes, the keeper's part: starts the broker, gives out addresses, writes names.

The bridges themselves are the broker's (:mod:`pytest_isolate.session.network.broker`), a process that is started when
the first bridged sandbox is planned. Without real root it has a user namespace of its own, and the builder of bridged
sandboxes lives in that one too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from typing import Any, NamedTuple

from pytest_isolate.linux import native
from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.native import Fd
from pytest_isolate.plan.planner import HOSTS
from pytest_isolate.sandbox.builder import Builder, Sandbox
from pytest_isolate.sandbox.helper_process import HelperProcess
from pytest_isolate.session.network import addresses
from pytest_isolate.session.network.addresses import NodeAddress
from pytest_isolate.spec.errors import SetupError, UnsupportedError

#: Numbers of its sandboxes, which must differ from those of the builder of all others: they share their cgroups.
_FIRST = 1_000_001
_ANSWER = 1 << 16
_OPTIONS = {
    "bridge": "Load the kernel's module: sudo modprobe bridge (CONFIG_BRIDGE)",
    "veth": "Load the kernel's module: sudo modprobe veth (CONFIG_VETH)",
}
_NO_MODULE = (errno.ENOENT, errno.EOPNOTSUPP)  # answers where a kind of queue or device is not known
_SEE = "; see `python -m pytest_isolate docs networks`."
_NETEM = f"Load the kernel's module: sudo modprobe sch_netem (CONFIG_NET_SCH_NETEM){_SEE}"
_SHAPING = {
    "netem": _NETEM,
    "tbf": f"One of two modules does it: sudo modprobe sch_tbf (CONFIG_NET_SCH_TBF). Or: {_NETEM}",
}


class Place(NamedTuple):
    """Where a sandbox is connected."""

    network: str
    address: NodeAddress
    port: str  #: name of the bridge's end of its cable
    name: str  #: by which its peers find it


class Bridges:
    """The broker of one keeper, and the builder of the sandboxes that it connects."""

    def __init__(self, *, real_root: bool) -> None:
        """Start both; what this host lacks is in :attr:`lack` then.

        :raises SetupError: if they can't be started.
        """
        self._own_builder = not real_root
        self._indices: dict[str, int] = {}  # of the networks there are
        self._given: dict[int, int] = {}  # how many addresses were, by index
        self._members: dict[str, tuple[Place, Sandbox]] = {}  # by port
        namespace = "-" if real_root else "userns"
        self.process = HelperProcess.of_module("broker of networks", "pytest_isolate.session.network.broker", namespace)
        self.builder: Builder | None = None  #: for bridged sandboxes; None: any builder can make them
        try:
            self.lack = self._lack(
                self._answer("to find out what this host allows")
            )  #: why there can be no bridge here; None if all is well
            if self.lack is None and self._own_builder:
                self.builder = self.new_builder(_FIRST)
        except BaseException:
            self.close()
            raise

    def new_builder(self, first: int) -> Builder:
        """A builder in the broker's user namespace. :param first: number of its first sandbox."""
        pidfd = native.pidfd_open(self.process.pid)
        try:
            self.builder = Builder(first, below=pidfd)
        finally:
            calls.close(pidfd)
        return self.builder

    def secrets(self) -> tuple[Fd, ...]:
        """Descriptors that must not reach a test."""
        return (*self.process.secrets(), *(() if self.builder is None else self.builder.secrets()))

    def join(self, sandbox: Sandbox, network: str, name: str) -> Place:
        """Connect a sandbox that stands ready to a bridge, which is made if need be, and tell its peers its name.

        :raises SetupError: with what could not be done. After it :meth:`alive` may be false.
        """
        index = self._indices.get(network) or self._new_index(network)
        self._given[index] += 1
        address = addresses.address(index, self._given[index] - 1)
        lengths = addresses.PREFIX, addresses.PREFIX6
        answer = self._ask("attach", sandbox.init_pidfd, network=network, lengths=lengths, address=address._asdict())
        if not answer["ip6"]:
            address = address._replace(ip6="")
        place = Place(network, address, str(answer["port"]), name)
        self._members[place.port] = place, sandbox
        try:
            self._write_names(network)
        except SetupError:
            self.leave(place)
            raise
        return place

    def leave(self, place: Place) -> None:
        """The sandbox there is about to end."""
        _, sandbox = self._members.pop(place.port)
        with contextlib.suppress(SetupError):  # a peer that has a stale name reaches nobody under it
            self._write_names(place.network)
        with contextlib.suppress(SetupError):  # the broker has died, and with it what could stay
            self._ask("release", sandbox.init_pidfd)

    def drop(self, network: str) -> None:
        """Remove a bridge that nobody is on; its addresses may be those of another network then.

        :raises SetupError: if that can't be done.
        """
        if network in self._indices:
            self._ask("drop", network=network)
            del self._indices[network]

    def cut(self, one: Place, other: Place, *, heal: bool = False) -> None:
        """Let nothing through between two, or all again. Broadcasts and multicasts are not held back.

        :raises SetupError: with what could not be done.
        """
        for here, there in ((one, other), (other, one)):
            peer = there.address
            targets = [ip for ip in (peer.ip, peer.ip6, peer.link_local if peer.ip6 else "") if ip]
            self._ask("deafen", self._members[here.port][1].init_pidfd, peers=targets, heal=heal)

    def shape(self, network: str, *, delay: float, loss: float, rate: int | None) -> None:
        """Let traffic to each sandbox of a network, and those to come, pass so: seconds, share, bytes per second.

        :raises UnsupportedError: the kernel lacks what that takes. :raises SetupError: it could not be done.
        """
        try:
            self._ask("shape", network=network, delay=delay, loss=loss, rate=rate)
        except SetupError as error:
            if error.errno not in _NO_MODULE:
                raise
            remedy = next(remedy for kind, remedy in _SHAPING.items() if kind in error.step)
            raise UnsupportedError("network", error.reason, remedy) from None  # whose sentence it has

    def traffic(self, place: Place) -> dict[str, int]:
        """Bytes and packets that went to and from a sandbox so far, by the names of the fields of NodeUsage.

        :raises SetupError: if that can't be told.
        """
        return dict(self._ask("traffic", port=place.port)["traffic"])

    def _new_index(self, network: str) -> int:
        taken = set(self._indices.values())
        index = next((number for number in range(1, addresses.NETWORKS + 1) if number not in taken), None)
        if index is None:
            raise SetupError("make another network", network, errno.ENOSPC, f"There are {addresses.NETWORKS} at most.")
        self._indices[network] = index
        self._given.setdefault(index, 0)
        return index

    def _write_names(self, network: str) -> None:
        members = [(place, sandbox) for place, sandbox in self._members.values() if place.network == network]
        text = addresses.hosts((place.name, place.address) for place, _ in members)
        for _, sandbox in members:
            if sandbox.scratch is not None:
                _write_hosts(sandbox.scratch, text)

    def links(self) -> list[str]:
        """Names of the broker's network devices, for tests."""
        return list(self._ask("links")["links"])

    def alive(self) -> bool:
        """Whether the broker is still there, and this side in step with it."""
        return self.process.alive()

    def close(self) -> None:
        """End broker and builder, and with them all bridges."""
        if self.builder is not None:
            with contextlib.suppress(SetupError):
                self.builder.clean_up_after((), ())  # the session may go on, and need the groups that it would remove
            self.builder.close()
        self.process.close()

    def _ask(self, what: str, *fds: int, **parameters: object) -> dict[str, Any]:
        self.process.send(json.dumps({"do": what, **parameters}).encode(), fds)
        answer = self._answer(f"to do this: {what}")
        if "refused" in answer:
            step, target, code = answer["refused"]
            raise SetupError(step, target, code)
        return answer

    def _answer(self, awaited: str) -> dict[str, Any]:
        return dict(json.loads(self.process.receive(_ANSWER, awaited=awaited)[0]))

    @staticmethod
    def _lack(hello: dict[str, Any]) -> UnsupportedError | None:
        if missing := hello.get("missing"):
            return UnsupportedError(
                "network", f"cannot import pyroute2 ({missing})", "Install it: pip install pyroute2."
            )
        if "refused" not in hello:
            return None
        step, target, code = hello["refused"]
        reason = SetupError(step, target, code).reason
        option = _OPTIONS.get(step.rpartition(" ")[2], "Allow network namespaces (user.max_net_namespaces)")
        return UnsupportedError("network", reason, option + _SEE)


def _write_hosts(scratch: Fd, text: str) -> None:
    """Fill the /etc/hosts of a sandbox, whose scratch space has it."""
    try:
        fd = calls.open(HOSTS, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=scratch)
        try:
            calls.write(fd, text.encode("ascii"))  # a tmpfs or a disk takes all of it, or none
        finally:
            calls.close(fd)
    except OSError as error:
        raise SetupError("write", "the sandbox's /etc/hosts", error.errno or 0) from error
