"""Finds out whether sandboxes can be connected to the outside here (``network="nat"``), by connecting one.

Done when the first test asks for it, so that no other pays for it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable

from pytest_isolate import nat
from pytest_isolate.errors import SetupError, UnsupportedError
from pytest_isolate.host import Host
from pytest_isolate.nat import Uplink
from pytest_isolate.plan import Plan
from pytest_isolate.planning import plan_for
from pytest_isolate.spec import Spec

_SEE = "; see docs/networks.md."
_TUN = "/dev/net/tun"
_NO_TUN = f"Load the kernel's module, sudo modprobe tun (CONFIG_TUN), or give the container --device {_TUN}{_SEE}"
_CLOSED_TUN = f"Let users open it, as udev does by itself: sudo chmod 666 {_TUN}{_SEE}"
_BY_ITSELF = "It goes out by the host's default route, so there must be one; else try {} by itself"
_RESOLVER = "/etc/resolv.conf"


def look(host: Host, attempt: Callable[[Plan], SetupError | None]) -> Uplink:
    """The way to the outside.

    :param attempt: builds a Plan and takes it down again.
    :raises UnsupportedError: there is none here.
    """
    program = shutil.which("pasta")
    if program is None:
        raise UnsupportedError("network", "pasta is not installed", f"Install the package passt{_SEE}")
    _check_tun()
    resolver, answered = nat.resolver(_resolver())
    uplink = Uplink(program=os.path.abspath(program), resolver=resolver, answered=answered, place=_place())
    if error := attempt(plan_for(Spec(network="nat"), host, uplink=uplink)):
        said = f" ({error.remedy.removesuffix('.')})" if error.remedy else ""
        reason = str(SetupError(error.step, error.target, error.errno)).removeprefix("sandbox: ").removesuffix(".")
        raise UnsupportedError("network", reason + said, _BY_ITSELF.format(program) + _SEE)
    return uplink


def _check_tun() -> None:
    """Pasta's own message for this has no errno."""
    try:
        os.close(os.open(_TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        reason = str(SetupError("open", _TUN, error.errno or 0)).removeprefix("sandbox: ").removesuffix(".")
        reason = reason.replace(f" on {_TUN}", f" {_TUN}", 1)
        remedy = _CLOSED_TUN if error.errno in (errno.EACCES, errno.EPERM) else _NO_TUN
        raise UnsupportedError("network", reason, remedy) from error


def _resolver() -> str:
    try:
        with open(_RESOLVER, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _place() -> str:
    """Without links: absolute ones would lead elsewhere while the sandbox's tree is still being built."""
    place = os.path.realpath(_RESOLVER)
    return place if os.path.isfile(place) else ""
