"""Spec + Host -> Plan: puts together what each contributor plans. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from pytest_isolate import kernelfs, network, rootfs
from pytest_isolate.host import ESSENTIAL, OPTIONAL, USUAL, Feature, Host, Lack, group_range, identity
from pytest_isolate.mounts import below
from pytest_isolate.plan import CgroupDir, Clone, Layer, Op, Plan, Step
from pytest_isolate.spec import Spec

if TYPE_CHECKING:
    from pytest_isolate.images.root import Root
    from pytest_isolate.nat import Uplink

#: Capabilities (numbers of linux/capability.h) that root inside keeps, in its own user namespace: over its own
#: processes, files it may map, its network, host name, and mounts in namespaces that it makes. Left out is what the
#: kernel grants in the initial user namespace only, so that having it would only make programs try.
ROOT_KEEPS = sum(
    1 << number
    for number in (
        0,  # CHOWN
        1,  # DAC_OVERRIDE
        2,  # DAC_READ_SEARCH
        3,  # FOWNER
        4,  # FSETID
        5,  # KILL
        6,  # SETGID
        7,  # SETUID
        8,  # SETPCAP
        10,  # NET_BIND_SERVICE
        11,  # NET_BROADCAST
        12,  # NET_ADMIN
        13,  # NET_RAW
        14,  # IPC_LOCK
        15,  # IPC_OWNER
        18,  # SYS_CHROOT
        19,  # SYS_PTRACE
        21,  # SYS_ADMIN
        23,  # SYS_NICE
        24,  # SYS_RESOURCE
        27,  # MKNOD
        29,  # AUDIT_WRITE
        31,  # SETFCAP
    )
)

#: With real root, the mounts belong to the host's user namespace, where nothing inside can change them, and these to
#: the sandbox's own.
_OWNED_INSIDE = Clone.NEWUSER | Clone.NEWNET | Clone.NEWUTS

#: Options of an overlay, after its directories, for mounts with and without real root.
_TRUSTED = ",redirect_dir=on,index=off,xino=off"
_USER = ",userxattr,index=off,xino=off"

#: The file of a bridged sandbox's scratch space that it sees as /etc/hosts.
HOSTS = "hosts"
#: The same for /etc/resolv.conf of one that is connected to the outside.
RESOLVER = "resolv.conf"

_ON_DISK = (
    "Only a layer on tmpfs has a size, and without root that takes Linux 6.6 or newer; or run pytest as root; "
    "see docs/hosts.md."
)


def plan_for(
    spec: Spec,
    host: Host,
    cgroups: tuple[CgroupDir, ...] = (),
    image: Root | None = None,
    uplink: Uplink | None = None,
) -> Plan:
    """The Plan of ``spec`` on ``host``; where no sandbox can be built, what can be had without a view of its own.

    :param image: the root file system; None: the host's own tree.
    :param uplink: the way to the outside for network="nat"; None: there is none.
    """
    shared = Clone.NEWNET if spec.network == "host" else Clone(0)
    if not host.sandbox:
        return _without_view(spec, host, cgroups, shared)
    joined = host.namespaces & (ESSENTIAL | USUAL) & ~shared
    late = host.namespaces & OPTIONAL
    uplink = uplink if joined & Clone.NEWNET else None  # never from the host's own network
    root_inside = spec.user == "root"
    tree = _host_tree(spec, host) if image is None else _image_tree(spec, host, image)
    common = Plan(
        namespaces=joined,
        ops=tuple(_ops(spec, host, tree, joined, uplink)),
        uplink=_commands(uplink, host),
        layers=tree.layers,
        cgroups=cgroups,
        scratch=host.scratch,
        join=joined,
        capabilities=ROOT_KEEPS if root_inside or host.uid == 0 else 0,
        env=image.env if image else (),
        moved=image.moved if image else (),
        libraries=image.libraries if image else (),
    )
    if host.real_root:
        return replace(
            common,
            namespaces=joined & ~_OWNED_INSIDE,
            uid_map=identity(host.uid_map),
            gid_map=identity(host.gid_map),
            unshare_late=late,  # the test may not join a time namespace that belongs to the host's user namespace
        )
    return replace(
        common,
        namespaces=joined | (late & Clone.NEWTIME),
        uid_map=f"{0 if root_inside else host.uid} {host.uid} 1",
        gid_map=f"{0 if root_inside else host.gid} {host.gid} 1",
        join_late=late & Clone.NEWTIME,
        unshare_late=late & Clone.NEWCGROUP,
    )


def _without_view(spec: Spec, host: Host, cgroups: tuple[CgroupDir, ...], shared: Clone) -> Plan:
    """The namespaces that need no mounts. Not that of processes: /proc would be of another one."""
    joined = host.namespaces & (Clone.NEWUSER | USUAL) & ~shared
    ops = [*(network.own(groups=(0, 0), held=False) if joined & Clone.NEWNET else ())]
    if joined & Clone.NEWUTS:
        ops.append(Op(Step.HOSTNAME, a=spec.hostname))
    root_inside = spec.user == "root"
    return Plan(
        namespaces=joined,
        uid_map=f"{0 if root_inside else host.uid} {host.uid} 1" if joined else "",
        gid_map=f"{0 if root_inside else host.gid} {host.gid} 1" if joined else "",
        ops=tuple(ops),
        cgroups=cgroups,
        join=joined,
        capabilities=ROOT_KEEPS if root_inside or host.uid == 0 else 0,
    )


def unsupported(spec: Spec, host: Host) -> list[tuple[str, Lack]]:
    """What of ``spec`` can't be in force on ``host``: keys of the contract, ``isolate`` for the sandbox as such."""
    if not host.sandbox:
        found = [lack for lack in host.lacks if lack.what in _FOUNDATION]
        return [(key, lack) for key in ("isolate", "image") if key == "isolate" or spec.image for lack in found]
    lacks = [(key, lack) for key, feature in _KEYS if (lack := host.lack(feature))]
    if spec.network == "host":
        lacks = [pair for pair in lacks if pair[0] != "network"]
    trees = [lack for lack in host.lacks if lack.what == "tree" and _matters(lack.target, spec, host)]
    lacks += [("isolate", lack) for lack in trees]
    if host.scratch and "disk" in spec.asked:
        lacks.append(("disk", Lack(what="tmpfs", step="limit the layer", target=host.scratch, remedy=_ON_DISK)))
    return lacks


#: Keys of the contract, and the feature that each rests on.
_KEYS: tuple[tuple[str, Feature], ...] = (
    ("isolate", "fresh_proc"),
    ("isolate", "ipcns"),
    ("network", "netns"),
    ("hostname", "utsns"),
)
_FOUNDATION: tuple[Feature, ...] = ("userns", "pidns", "mountns", "mounts", "overlay")


def _matters(tree: str, spec: Spec, host: Host) -> bool:
    """Whether tests will write in ``tree``, which is shown read-only, elsewhere than in what is bound through."""
    paths = [path for path in host.tree.important if path == tree or below(path, tree)]
    return any(not any(path == through or below(path, through) for through in spec.writable) for path in paths)


class _Tree(NamedTuple):
    """The file system, but for /proc, /sys and /dev."""

    before: Sequence[Op]  #: what they are mounted on
    after: Sequence[Op]  #: what may lie on or in them
    layers: tuple[Layer, ...]


def _host_tree(spec: Spec, host: Host) -> _Tree:
    if host.real_root:
        view = rootfs.whole(host.tree, _TRUSTED)
    else:
        view = rootfs.piecewise(host.tree, _USER, root_inside=spec.user == "root")
    return _Tree(view.ops, rootfs.bound_through(spec.writable), tuple(view.layers))


def _image_tree(spec: Spec, host: Host, image: Root) -> _Tree:
    from pytest_isolate.images import view as images  # noqa: PLC0415 - only if a test has an image

    before, layer = images.root(image)
    view = rootfs.View(_TRUSTED if host.real_root else _USER, ops=images.shown(image), layers=[layer])
    images.project(view, image, host.tree, rootless=not host.real_root, root_inside=spec.user == "root")
    return _Tree(before, view.ops, tuple(view.layers))


def _ops(spec: Spec, host: Host, tree: _Tree, joined: Clone, uplink: Uplink | None) -> list[Op]:
    own_network = bool(joined & Clone.NEWNET)
    bridged = spec.bridge is not None
    held = own_network and host.fresh_proc
    # The host's uid 0 may write some files in /proc by mere permission, and an identity map leaves it the host's uid 0.
    proc = kernelfs.proc(fresh=host.fresh_proc, protect=host.tree.proc if host.uid == 0 else ())
    ops = [
        Op(Step.STAGE, a=f"size={spec.limits.disk},mode=755"),
        *tree.before,
        *proc[:1],
        *(network.hold(f"{rootfs.NEW}/proc") if held else ()),
        *proc[1:],
        *kernelfs.sys(fresh=own_network and host.fresh_sys and not host.real_root, whole=host.real_root),
        *kernelfs.dev(spec.limits.disk, queues=bool(joined & Clone.NEWIPC)),
        *tree.after,
        *(network.names(f"{rootfs.NEW}/etc", f"{rootfs.SCRATCH}/{HOSTS}") if own_network and bridged else ()),
        *(_resolver(spec, uplink) if uplink else ()),
        Op(Step.PIVOT, b=rootfs.NEW),
    ]
    if host.real_root:
        ops.append(Op(Step.UNSHARE, joined & _OWNED_INSIDE))
    if own_network:
        ops += network.own(groups=_groups(spec, host), held=held)
    if joined & Clone.NEWUTS:
        ops.append(Op(Step.HOSTNAME, a=spec.hostname))
    return ops


def _commands(uplink: Uplink | None, host: Host) -> tuple[tuple[str, ...], ...]:
    if uplink is None:
        return ()
    from pytest_isolate import nat  # noqa: PLC0415 - only if a test asks for it

    return nat.commands(uplink, real_root=host.real_root)


def _resolver(spec: Spec, uplink: Uplink) -> list[Op]:
    if spec.image is None and not uplink.place:
        return []
    place = f"{rootfs.NEW}{uplink.place}" if spec.image is None else None
    return network.resolver(f"{rootfs.NEW}/etc", uplink.resolver, f"{rootfs.SCRATCH}/{RESOLVER}", place)


def _groups(spec: Spec, host: Host) -> tuple[int, int]:
    if host.real_root:
        return group_range(host.gid_map)
    return (0, 0) if spec.user == "root" else (host.gid, host.gid)
