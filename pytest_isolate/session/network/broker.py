"""A program: keeps the bridges of a session, and connects sandboxes to them. One per session that has any.

Theory of operation. The bridges are in a network namespace of this process, which has no link to the host's, and vanish
with it. A virtual cable (veth(4)) has one end there and one in a sandbox, so whoever lays it needs rights over both:
real root has them; else this process makes a user namespace first, and the sandboxes that it is to connect are built
below that one (``join_broker`` in ``_native/builder.c``), which gives it all rights there (user_namespaces(7)).

Descriptor 3 is the control socket: each datagram is a JSON object, ``do`` and its parameters, and is answered by one,
which has ``refused`` if it could not be done. A pidfd that comes with it is that of a sandbox's PID 1. Descriptor 4 is
a pidfd of pytest; when either ends, this program does. pyroute2 is imported here alone:
it takes longer than pytest.
"""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Callable
from functools import partial

from pytest_isolate.session.network.bridge_links import MISSING, Answer, BridgeLinks, RefusedError

CONTROL, KEEPER = 3, 4
_MESSAGE = 1 << 16


def _answer(work: Callable[[], Answer]) -> Answer:
    try:
        return work()
    except RefusedError as error:
        return {"refused": error.args}
    except Exception as error:  # noqa: BLE001 - else it would end this process, and with it all bridges, in silence
        return {"refused": (f"change the network: {error!r}", "", 0)}


def _serve(bridges: BridgeLinks, control: socket.socket) -> None:
    """Until pytest has ended or closed the socket."""
    poll = select.poll()
    for fd in (CONTROL, KEEPER):
        poll.register(fd, select.POLLIN)
    while not any(fd == KEEPER for fd, _ in poll.poll()):
        message, fds, _, _ = socket.recv_fds(control, _MESSAGE, 1)
        if not message:
            return
        asked = json.loads(message)
        work = getattr(bridges, asked.pop("do"))
        try:
            answer = _answer(partial(work, *fds, **asked))
        finally:
            for fd in fds:
                os.close(fd)
        control.send(json.dumps(answer).encode())


def main(user_namespace: str) -> None:
    """Say whether it works here, then serve."""
    os.closerange(KEEPER + 1, os.sysconf("SC_OPEN_MAX"))
    os.setsid()  # Ctrl-C is pytest's business
    os.chdir("/")
    made: list[BridgeLinks] = []

    def make() -> Answer:
        if MISSING is not None:
            return {"missing": MISSING}
        made.append(BridgeLinks(user_namespace=user_namespace == "userns"))
        return {}

    with socket.socket(fileno=CONTROL) as control:
        control.send(json.dumps(_answer(make)).encode())
        if made:
            _serve(made[0], control)
