"""Devices of the host that a test asks for, as operations of a Plan. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_isolate.plan import operations as do
from pytest_isolate.plan.operations import OLD, Op
from pytest_isolate.plan.rootfs import NEW
from pytest_isolate.spec.errors import UnsupportedError

if TYPE_CHECKING:
    from pytest_isolate.linux.device_nodes import DeviceNode


def let_in(nodes: Iterable[DeviceNode]) -> list[Op]:
    """Bind each node to its own path; /dev must be there.

    Who may open it is a matter of its mode and, with cgroup v1, of the group's rules. None is made anew: a terminal
    works only where devpts shows it.
    """
    made = ["/dev"]
    ops: list[Op] = []
    for node in nodes:
        names = node.path.split("/")
        for folder in ("/".join(names[:depth]) for depth in range(3, len(names))):
            if folder not in made:
                made.append(folder)
                ops.append(do.mkdir(NEW + folder))
        ops.append(do.device(OLD + node.source, NEW + node.path, own=False))
    return ops


def missing(path: str) -> UnsupportedError:
    """What to say of a device that is not there."""
    return UnsupportedError(
        "devices",
        f"there is no {path}",
        "Load its driver, or start the container with it: docker run --device. `--isolate-unsupported=skip` skips such "
        "tests; see `python -m pytest_isolate docs options`.",
    )


def rules(nodes: Iterable[DeviceNode]) -> tuple[str, ...]:
    """What cgroup v1 is to allow (Documentation/admin-guide/cgroup-v1/devices.rst)."""
    return tuple(dict.fromkeys(f"{node.number} rw" for node in nodes))
