"""Spec + Host -> the Plan of a session sandbox, in which pytest itself runs. Pure.

It differs from a test's in what pytest, its fixtures and the sandboxes of tests above it need: hardware, control
groups, the right to mount and, as real root, no user namespace. It guards against mistakes, no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_isolate.linux import overlayfs
from pytest_isolate.linux.flags import Clone
from pytest_isolate.linux.mountinfo import below
from pytest_isolate.plan import network, planner, proc_sys_dev, rootfs
from pytest_isolate.plan import operations as do
from pytest_isolate.plan.host import ESSENTIAL, USUAL, Host
from pytest_isolate.plan.host_tree import OWN_NETWORK
from pytest_isolate.plan.operations import OLD, Op
from pytest_isolate.plan.plan import CgroupDir, Plan
from pytest_isolate.plan.rootfs import View
from pytest_isolate.plan.session_layers import DISK, SESSION
from pytest_isolate.spec.spec import Spec

if TYPE_CHECKING:
    from pytest_isolate.plan.pasta import Uplink

#: Most bytes in the layers, where nobody has said: of the machine's memory, as a tmpfs has it by itself.
_DISK = "50%"
#: Few processes of tests have greater ones. Libraries know by its number that they are in a fork. 60 us each.
_PASSED_NUMBERS = 30


def session_plan(spec: Spec, host: Host, cgroups: tuple[CgroupDir, ...], uplink: Uplink | None = None) -> Plan:
    """The Plan of the sandbox that pytest's process is forked into; ``host.sandbox`` must hold.

    :param cgroups: a group of its own in each hierarchy, below which the tests' groups will be.
    :param uplink: the way to the outside for network="nat".
    """
    shared = Clone.NEWNET if spec.network == "host" else Clone(0)
    joined = host.namespaces & (ESSENTIAL | USUAL) & ~shared
    if host.real_root:
        # Tests' sandboxes are made as real root makes them, which root of a user namespace could not.
        joined &= ~Clone.NEWUSER
    uid_map, gid_map = ("", "") if host.real_root else host.own_id_maps()
    view = _view(host)
    ops = _operations(spec, host, view, joined, uplink)
    return Plan(
        namespaces=joined,
        uid_map=uid_map,
        gid_map=gid_map,
        ops=tuple(ops),
        uplink=planner.uplink_commands(uplink, host),
        layers=tuple(view.layers),
        cgroups=cgroups,
        scratch=host.scratch,
        join=joined,
        no_new_privs=False,
        seccomp=False,
    )


def _view(host: Host) -> View:
    options = overlayfs.options(trusted=host.real_root)
    if host.real_root:
        view = rootfs.whole(host.tree, options)
        view.devices()
        return view
    return rootfs.piecewise(host.tree, options, root_inside=False)


def _operations(spec: Spec, host: Host, view: View, joined: Clone, uplink: Uplink | None) -> list[Op]:
    own_network = bool(joined & Clone.NEWNET)
    held = own_network and host.fresh_proc
    proc = proc_sys_dev.proc(fresh=host.fresh_proc, machine=host.tree.proc if host.real_root else ())
    ops = [
        do.stage(spec.limits.disk if "disk" in spec.asked else _DISK),
        *view.ops,
        *_keep_layers(view, own_network=own_network, scratch=host.scratch),
        *proc[:1],
        *(network.hold(f"{rootfs.NEW}/proc") if held else ()),
        *proc[1:],
        *proc_sys_dev.session_sys(whole=host.real_root),
        *proc_sys_dev.session_dev(whole=host.real_root, queues=host.tree.queues and bool(joined & Clone.NEWIPC)),
        *rootfs.bind_through(spec.writable),
        *(planner.resolver(spec, uplink) if uplink else ()),
        do.pivot(rootfs.NEW),
    ]
    if own_network:
        ops += network.own(groups=planner.groups(spec, host), held=held, families=host.families)
    if joined & Clone.NEWPID:
        ops.append(do.pass_numbers(_PASSED_NUMBERS))
    return ops


def _keep_layers(view: View, *, own_network: bool, scratch: str) -> list[Op]:
    """Show the directories of all overlays of a session sandbox, read-only, for those of sandboxes above it.

    An overlay takes no other one as its lower directory that has another below it (FILESYSTEM_MAX_STACK_DEPTH in the
    kernel's include/linux/fs.h), as in a container, whose root is one. Besides, reading goes through one layer less.

    :param scratch: where the scratch space is on disk, or "". Theirs will have to be there too: it is a part of this
        one, as an overlay keeps ``user.overlay`` attributes to itself, and so cannot hold another's writable layer. The
        layer that covers it cannot be taken apart, as one directory would lie within the other (ELOOP).
    """
    top = rootfs.NEW + SESSION
    ops = [do.mkdir(top, 0o700), do.mount("tmpfs", top, "tmpfs", rootfs.SAFE, "size=1m,mode=700"), do.mkdir(f"{top}/s")]
    ops.append(do.bind(rootfs.SCRATCH, f"{top}/s"))
    for layer in view.layers:
        if layer.upper.startswith("u") and not below(scratch, layer.seen):
            number = layer.upper.removeprefix("u")
            ops += [do.mkdir(f"{top}/{number}"), do.bind(OLD + layer.seen, f"{top}/{number}")]
    if own_network:
        ops.append(do.mkdir(rootfs.NEW + OWN_NETWORK))
    if not scratch:
        return [*ops, do.read_only(top)]
    inner = f"{rootfs.SCRATCH}/inner"
    shown = rootfs.NEW + DISK
    return [*ops, do.mkdir(shown), do.read_only(top), do.mkdir(inner, 0o700), do.bind(inner, shown)]
