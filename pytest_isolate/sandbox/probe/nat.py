"""Finds out whether sandboxes can be connected to the outside here (``network="nat"``), by connecting one.

Done when the first test asks for it, so that no other pays for it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable

from pytest_isolate.linux import files
from pytest_isolate.linux.calls import calls
from pytest_isolate.plan import pasta
from pytest_isolate.plan.host import Host
from pytest_isolate.plan.pasta import Uplink
from pytest_isolate.plan.plan import Plan
from pytest_isolate.plan.planner import plan_for
from pytest_isolate.spec.errors import SetupError, UnsupportedError
from pytest_isolate.spec.spec import Spec

_SEE = "; see `python -m pytest_isolate docs networks`."
_NO_PASTA = f"Install the package passt: sudo apt-get install passt{_SEE}"
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
        raise UnsupportedError("network", "pasta is not installed", _NO_PASTA)
    _check_tun()
    resolver, answered = pasta.resolver(_read_resolver())
    uplink = Uplink(
        program=os.path.abspath(program), resolver=resolver, answered=answered, resolver_path=_resolver_path()
    )
    if error := attempt(plan_for(Spec(network="nat"), host, uplink=uplink)):
        words = f" ({error.remedy.removesuffix('.')})" if error.remedy else ""
        raise UnsupportedError("network", error.reason + words, _BY_ITSELF.format(program) + _SEE)
    return uplink


def _check_tun() -> None:
    """Pasta's own message for this has no errno."""
    try:
        calls.close(calls.open(_TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        reason = SetupError("open", _TUN, error.errno or 0).reason
        reason = reason.replace(f" on {_TUN}", f" {_TUN}", 1)
        remedy = _CLOSED_TUN if error.errno in (errno.EACCES, errno.EPERM) else _NO_TUN
        raise UnsupportedError("network", reason, remedy) from error


def _read_resolver() -> str:
    try:
        return calls.fsdecode(files.read_bytes(_RESOLVER))
    except OSError:
        return ""


def _resolver_path() -> str:
    """Without links: absolute ones would lead elsewhere while the sandbox's tree is still being built."""
    path = os.path.realpath(_RESOLVER)
    return path if os.path.isfile(path) else ""
