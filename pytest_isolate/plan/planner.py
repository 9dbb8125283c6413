"""Spec + Host -> Plan: puts together what each contributor plans. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pytest_isolate.linux import overlayfs
from pytest_isolate.linux.capabilities import ROOT_KEEPS
from pytest_isolate.linux.flags import Clone
from pytest_isolate.plan import devices, network, own_name, proc_sys_dev, rootfs
from pytest_isolate.plan import operations as do
from pytest_isolate.plan.host import ESSENTIAL, OPTIONAL, USUAL, Host, group_range
from pytest_isolate.plan.operations import Op
from pytest_isolate.plan.plan import CgroupDir, Plan, WritableLayer
from pytest_isolate.spec.spec import Spec

if TYPE_CHECKING:
    from pytest_isolate.linux.device_nodes import DeviceNode
    from pytest_isolate.plan.image_root import ImageRoot
    from pytest_isolate.plan.own_name import OwnName
    from pytest_isolate.plan.pasta import Uplink

#: With real root, the mounts belong to the host's user namespace, where nothing inside can change them, and these to
#: the sandbox's own.
_OWNED_INSIDE = Clone.NEWUSER | Clone.NEWNET | Clone.NEWUTS
#: The file of a bridged sandbox's scratch space that it sees as /etc/hosts.
HOSTS = "hosts"
#: The same for /etc/resolv.conf of one that is connected to the outside.
RESOLVER = "resolv.conf"
#: A test's process has it in its sandbox, as has pytest in some containers. By it libraries know forks.
_FIRST_NUMBER = 2


def plan_for(
    spec: Spec,
    host: Host,
    cgroups: tuple[CgroupDir, ...] = (),
    image: ImageRoot | None = None,
    uplink: Uplink | None = None,
    *,
    nodes: Iterable[DeviceNode] = (),
) -> Plan:
    """The Plan of ``spec`` on ``host``; where no sandbox can be built, what can be had without a view of its own.

    :param image: the root file system; None: the host's own tree.
    :param nodes: devices to let in.
    :param uplink: the way to the outside for network="nat"; None: there is none.
    """
    shared = Clone.NEWNET if spec.network == "host" else Clone(0)
    if not host.sandbox:
        return _plan_without_mounts(spec, host, cgroups, shared)
    joined = host.namespaces & (ESSENTIAL | USUAL) & ~shared
    uplink = uplink if joined & Clone.NEWNET else None  # never from the host's own network
    root_inside = spec.user == "root"
    named = bool(joined & Clone.NEWUTS) and not (spec.bridge and joined & Clone.NEWNET)  # a bridge has names of its own
    own = _own_name(spec, host) if named and image is None else None
    tree = _plan_host_tree(spec, host, own) if image is None else _plan_image_tree(spec, host, image, named=named)
    uid_map, gid_map = host.id_maps(root_inside=root_inside)
    common = Plan(
        namespaces=joined,
        uid_map=uid_map,
        gid_map=gid_map,
        ops=tuple(_plan_ops(spec, host, tree._replace(let_in=devices.let_in(nodes)), joined, uplink)),
        uplink=uplink_commands(uplink, host),
        layers=tree.layers,
        longer=((own_name.FILE, len(own.lines)),) if own else (),
        cgroups=cgroups,
        scratch=host.scratch,
        join=joined,
        capabilities=ROOT_KEEPS if root_inside or host.uid == 0 else 0,
        env=image.env if image else (),
        moved=image.moved if image else (),
        libraries=image.libraries if image else (),
    )
    return _with_namespaces(common, host, joined, nested=spec.nested)


def _with_namespaces(plan: Plan, host: Host, joined: Clone, *, nested: bool) -> Plan:
    """Divide what is made when: by the clone of PID 1, in PID 1 later, or by the test's process.

    :param nested: the test gets mounts that belong to its own user namespace, in which its root may mount.
    """
    late = host.namespaces & OPTIONAL
    if host.real_root:
        return plan._replace(
            namespaces=joined & ~_OWNED_INSIDE,
            # the test may not join a time namespace that belongs to the host's user namespace
            unshare_late=late | (Clone.NEWNS if nested else Clone(0)),
        )
    return plan._replace(
        namespaces=joined | (late & Clone.NEWTIME),
        join_late=late & Clone.NEWTIME,
        unshare_late=late & Clone.NEWCGROUP,
    )


def _plan_without_mounts(spec: Spec, host: Host, cgroups: tuple[CgroupDir, ...], shared: Clone) -> Plan:
    """The namespaces that need no mounts. Not that of processes: /proc would be of another one."""
    joined = host.namespaces & (Clone.NEWUSER | USUAL) & ~shared
    ops = [*(network.own(groups=(0, 0), held=False, families=host.families) if joined & Clone.NEWNET else ())]
    if joined & Clone.NEWUTS:
        ops.append(do.hostname(spec.hostname))
    root_inside = spec.user == "root"
    uid_map, gid_map = host.own_id_maps(root_inside=root_inside) if joined else ("", "")
    return Plan(
        namespaces=joined,
        uid_map=uid_map,
        gid_map=gid_map,
        ops=tuple(ops),
        cgroups=cgroups,
        join=joined,
        capabilities=ROOT_KEEPS if root_inside or host.uid == 0 else 0,
    )


class _Tree(NamedTuple):
    """The file system without /proc, /sys and /dev."""

    before: Sequence[Op]  #: what they are mounted on
    memory: Sequence[Op]  #: the layer over /dev/shm, if there is one
    after: Sequence[Op]  #: what may lie on or in them
    layers: tuple[WritableLayer, ...]
    let_in: Sequence[Op] = ()  #: devices


def _own_name(spec: Spec, host: Host) -> OwnName | None:
    root_inside = spec.user == "root"
    access = None if host.real_root else 6 if root_inside else host.hosts.entry.access if host.hosts else 0
    return own_name.own_name(spec.hostname, host.hosts, host.tree.points, access)


def _plan_host_tree(spec: Spec, host: Host, own: OwnName | None) -> _Tree:
    options = overlayfs.options(trusted=host.real_root)
    if host.real_root:
        view = rootfs.whole(host.tree, options, own)
    else:
        view = rootfs.piecewise(host.tree, options, own, root_inside=spec.user == "root")
    memory = rootfs.shared_memory(view, host.tree)
    after = rootfs.bind_through(spec.writable)
    if host.tree.sockets:
        from pytest_isolate.plan import session_sockets  # noqa: PLC0415 - only in a session sandbox

        after += session_sockets.show(host.tree, rootless=not host.real_root, writable=spec.writable)
    return _Tree(view.ops, memory, after, tuple(view.layers))


def _plan_image_tree(spec: Spec, host: Host, image: ImageRoot, *, named: bool) -> _Tree:
    from pytest_isolate.plan import image_root  # noqa: PLC0415 - only if a test has an image

    before, layer = image_root.mount_image(image, spec.hostname if named else "")
    options = overlayfs.options(trusted=host.real_root)
    view = rootfs.View(
        options, ops=image_root.show_host(image), layers=[layer], session_layers=host.tree.session_layers
    )
    image_root.show_project(view, image, host.tree, rootless=not host.real_root, root_inside=spec.user == "root")
    memory = [] if image.tmpfs_memory else rootfs.shared_memory(view, host.tree)
    return _Tree(before, memory, view.ops, tuple(view.layers))


def _plan_ops(spec: Spec, host: Host, tree: _Tree, joined: Clone, uplink: Uplink | None) -> list[Op]:
    own_network = bool(joined & Clone.NEWNET)
    bridged = spec.bridge is not None
    held = own_network and host.fresh_proc
    # An identity map leaves the host's uid 0 what it is, also in a user namespace.
    machine = host.tree.proc if host.uid == 0 else ()
    proc = proc_sys_dev.proc(fresh=host.fresh_proc, machine=machine)
    ops = [
        do.stage(spec.limits.disk),
        *tree.before,
        *proc[:1],
        *(network.hold(f"{rootfs.NEW}/proc") if held else ()),
        *proc[1:],
        *proc_sys_dev.sys(fresh=own_network and host.fresh_sys and not host.real_root, whole=host.real_root),
        *proc_sys_dev.dev(
            None if tree.memory else spec.limits.disk,
            queues=bool(joined & Clone.NEWIPC),
            own_nodes=host.real_root,
            second_proc=spec.nested and host.fresh_proc and bool(machine),
        ),
        *tree.let_in,
        *tree.memory,
        *tree.after,
        *(network.names(f"{rootfs.NEW}/etc", f"{rootfs.SCRATCH}/{HOSTS}") if own_network and bridged else ()),
        *(resolver(spec, uplink) if uplink else ()),
        do.pivot(rootfs.NEW),
    ]
    if host.real_root:
        ops.append(do.unshare(joined & _OWNED_INSIDE))
    if own_network:
        ops += network.own(groups=groups(spec, host), held=held, families=host.families)
    if joined & Clone.NEWUTS:
        ops.append(do.hostname(spec.hostname))
    if host.process == _FIRST_NUMBER:
        ops.append(do.pass_numbers(1))
    return ops


def uplink_commands(uplink: Uplink | None, host: Host) -> tuple[tuple[str, ...], ...]:
    """The programs that connect it to the outside."""
    if uplink is None:
        return ()
    from pytest_isolate.plan import pasta  # noqa: PLC0415 - only if a test asks for it

    return pasta.commands(uplink, real_root=host.real_root)


def resolver(spec: Spec, uplink: Uplink) -> list[Op]:
    """Show whom to ask for names there."""
    if spec.image is None and not uplink.resolver_path:
        return []
    path = f"{rootfs.NEW}{uplink.resolver_path}" if spec.image is None else None
    return network.resolver(f"{rootfs.NEW}/etc", uplink.resolver, f"{rootfs.SCRATCH}/{RESOLVER}", path)


def groups(spec: Spec, host: Host) -> tuple[int, int]:
    """Lowest and highest group id that is mapped inside."""
    if host.real_root:
        return group_range(host.gid_map)
    return (0, 0) if spec.user == "root" else (host.gid, host.gid)
