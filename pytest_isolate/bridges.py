"""Networks of bridged sandboxes, the keeper's part: starts the broker, gives out addresses, writes names.

The bridges themselves are the broker's (:mod:`pytest_isolate.broker`), a process that is started when the first bridged
sandbox is planned. Without real root it has a user namespace of its own, and the builder of bridged sandboxes lives in
that one too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pytest_isolate import addresses, native, processes
from pytest_isolate.addresses import Address
from pytest_isolate.builder import Builder, Sandbox
from pytest_isolate.errors import SetupError, UnsupportedError
from pytest_isolate.native import Fd
from pytest_isolate.planning import HOSTS

#: Numbers of its sandboxes, which must differ from those of the builder of all others: they share their cgroups.
_FIRST = 1_000_001
_ANSWER = 1 << 16
#: The broker imports what this process can, from the same places, but runs no start-up file of the environment.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from pytest_isolate.broker import main; main(sys.argv[1])"
)
_OPTIONS = {
    "bridge": "Load the kernel's module: sudo modprobe bridge (CONFIG_BRIDGE)",
    "veth": "Load the kernel's module: sudo modprobe veth (CONFIG_VETH)",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sandbox is connected."""

    network: str
    address: Address
    port: str  #: name of the bridge's end of its cable
    ip6: bool  #: whether its kernel has IPv6


class Bridges:
    """The broker of one keeper, and the builder of the sandboxes that it connects."""

    def __init__(self, *, real_root: bool) -> None:
        """Start both; what this host lacks is in :attr:`lack` then.

        :raises SetupError: if they can't be started.
        """
        self._own_builder = not real_root
        self._given: dict[str, tuple[int, int]] = {}  # by network: its index, and how many addresses were given out
        kind = "-" if real_root else "userns"
        path = [str(Path(__file__).resolve().parents[1]), *sys.path]
        arguments = [sys.executable, "-I", "-S", "-c", _START, kind, json.dumps(path), f"for={os.getpid()}"]
        self._pid, self._socket = processes.start("broker of networks", sys.executable, arguments, os.environ)
        self.builder: Builder | None = None  #: for bridged sandboxes; None: any builder can make them
        try:
            self.lack = self._lack(self._answer())  #: why there can be no bridge here; None if all is well
            if self.lack is None and self._own_builder:
                self.builder = self.new_builder(_FIRST)
        except BaseException:
            self.close()
            raise

    def new_builder(self, first: int) -> Builder:
        """A builder in the broker's user namespace. :param first: number of its first sandbox."""
        pidfd = native.pidfd_open(self._pid)
        try:
            self.builder = Builder(first, below=pidfd)
        finally:
            os.close(pidfd)
        return self.builder

    def secrets(self) -> tuple[Fd, ...]:
        """Descriptors that must not reach a test."""
        own = [self._socket.fileno(), *([] if self.builder is None else [self.builder.fileno()])]
        return tuple(Fd(fd) for fd in own if fd >= 0)

    def attach(self, sandbox: Sandbox, network: str) -> Place:
        """Connect a sandbox that stands ready to a bridge, which is made if need be.

        :raises SetupError: with what could not be done. After it :attr:`alive` may be false.
        """
        index, number = self._given.get(network, (len(self._given) + 1, 0))
        if index > addresses.NETWORKS:
            raise SetupError("make another network", network, errno.ENOSPC, f"There are {addresses.NETWORKS} at most.")
        self._given[network] = index, number + 1
        address = addresses.address(index, number)
        lengths = addresses.PREFIX, addresses.PREFIX6
        answer = self._ask("attach", sandbox.init_pidfd, network=network, lengths=lengths, address=asdict(address))
        return Place(network, address, str(answer["port"]), ip6=bool(answer["ip6"]))

    def links(self) -> list[str]:
        """Names of the broker's network devices, for tests."""
        return list(self._ask("links")["links"])

    def alive(self) -> bool:
        """Whether the broker is still there."""
        if self._socket.fileno() < 0:
            return False
        try:
            return os.waitpid(self._pid, os.WNOHANG)[0] == 0
        except ChildProcessError:
            return False

    def close(self) -> None:
        """End broker and builder, and with them all bridges."""
        if self.builder is not None:
            self.builder.close()
        self._socket.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _ask(self, what: str, *fds: int, **parameters: object) -> dict[str, Any]:
        try:
            socket.send_fds(self._socket, [json.dumps({"do": what, **parameters}).encode()], fds)
        except OSError as error:
            raise self._gone(error.errno or 0) from error
        answer = self._answer()
        if "refused" in answer:
            step, target, code = answer["refused"]
            raise SetupError(step, target, code)
        return answer

    def _answer(self) -> dict[str, Any]:
        try:
            message = self._socket.recv(_ANSWER)
        except OSError as error:
            raise self._gone(error.errno or 0) from error
        except BaseException:  # KeyboardInterrupt: the answer would be taken for that to the next question
            self._socket.close()
            raise
        if not message:
            raise self._gone(errno.EPIPE)
        return dict(json.loads(message))

    def _gone(self, code: int) -> SetupError:
        return SetupError("reach the broker of networks", f"pid {self._pid}", code, "It has died; was it killed?")

    @staticmethod
    def _lack(hello: dict[str, Any]) -> UnsupportedError | None:
        if missing := hello.get("missing"):
            return UnsupportedError(
                "network", f"cannot import pyroute2 ({missing})", "Install it: pip install pyroute2."
            )
        if "refused" not in hello:
            return None
        step, target, code = hello["refused"]
        reason = str(SetupError(step, target, code)).removeprefix("sandbox: ").removesuffix(".")
        option = _OPTIONS.get(step.rpartition(" ")[2], "Allow network namespaces (user.max_net_namespaces)")
        return UnsupportedError("network", reason, f"{option}; see docs/networks.md.")


def write_names(sandbox: Sandbox, named: Iterable[tuple[str, Place]]) -> None:
    """Fill the /etc/hosts of a bridged sandbox.

    :raises SetupError: if that can't be done.
    """
    assert sandbox.scratch is not None
    lines = [(name, place.address if place.ip6 else replace(place.address, ip6="")) for name, place in named]
    try:
        fd = os.open(HOSTS, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=sandbox.scratch)
        with open(fd, "w", encoding="ascii") as file:
            file.write(addresses.hosts(lines))
    except OSError as error:
        raise SetupError("write", "the sandbox's /etc/hosts", error.errno or 0) from error
