"""What a user can do about each thing that a host may refuse.

The settings that are read here only choose the words: what works has been tried.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

from pytest_isolate.linux import files
from pytest_isolate.plan.host import Feature, Lack
from pytest_isolate.plan.rootfs import NEW
from pytest_isolate.spec.errors import REMEDIES, SetupError

_CONTAINER = (
    "In Docker start the container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined, in Podman with unmask=ALL in place of the last; or with --privileged"
)
_SEE = "; see `python -m pytest_isolate docs hosts`."
#: Where ENOSPC means that a number is reached (namespaces(7), Documentation/admin-guide/sysctl/fs.rst).
_LIMITS: dict[Feature, str] = {
    "pidns": "user.max_pid_namespaces=10000",
    "mountns": "user.max_mnt_namespaces=10000",
    "netns": "user.max_net_namespaces=10000",
    "utsns": "user.max_uts_namespaces=10000",
    "ipcns": "user.max_ipc_namespaces=10000",
    "mounts": "fs.mount-max=200000",
}


def lack(what: Feature, error: SetupError) -> Lack:
    """What the host does not allow, as the attempt at ``what`` has failed by ``error``."""
    target = error.target.removeprefix(NEW) or error.target
    return Lack(what=what, step=error.step, target=target, errno=error.errno, remedy=remedy(what, error.errno))


def remedy(what: Feature, code: int, settings: Path = Path("/proc/sys")) -> str:
    """One or two sentences for the refusal of ``what`` with errno ``code``."""
    if code in REMEDIES:  # says nothing of what the host allows
        return REMEDIES[code]
    if code == errno.ENOSPC and what in _LIMITS:
        return f"Raise the limit: sudo sysctl -w {_LIMITS[what]}{_SEE}"
    return _of_feature(what, code, settings)


def _of_feature(what: Feature, code: int, settings: Path) -> str:
    def setting(name: str) -> str | None:
        with suppress(OSError):
            return files.read_text(settings / name).strip()
        return None

    if what in ("userns", "mounts", "mountns", "pidns"):
        return _namespaces(
            code,
            apparmor=setting("kernel/apparmor_restrict_unprivileged_userns") == "1",
            clone=setting("kernel/unprivileged_userns_clone") == "0",
            most=setting("user/max_user_namespaces"),
        )
    if what in ("netns", "utsns", "ipcns"):
        return f"The kernel must be built with this kind of namespace, and nothing may forbid it. {_CONTAINER}{_SEE}"
    if what == "overlay":
        return _overlay(code)
    if what == "fresh_proc":
        return (
            "In a container /proc must not be masked: docker run --security-opt systempaths=unconfined, podman run "
            "--security-opt unmask=ALL, in Kubernetes procMount: Unmasked. A test that runs isolated tests itself is "
            f"to be marked isolate(nested=True){_SEE}"
        )
    return f"It is read-only in sandboxes, and what the tests need to write there must be elsewhere{_SEE}"


def _namespaces(code: int, *, apparmor: bool, clone: bool, most: str | None) -> str:
    if code == errno.ENOSPC or most == "0":
        return f"Allow user namespaces: sudo sysctl -w user.max_user_namespaces=10000{_SEE}"
    if clone:
        return f"Allow user namespaces: sudo sysctl -w kernel.unprivileged_userns_clone=1{_SEE}"
    if apparmor:
        return f"Lift AppArmor's restriction: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0{_SEE}"
    if code == errno.ENOSYS:
        return f"Linux 5.4 or newer is needed, and clone3 must not be filtered. {_CONTAINER}{_SEE}"
    return f"{_CONTAINER}. In a chroot, run pytest outside of it{_SEE}"


def _overlay(code: int) -> str:
    if code == errno.ENODEV:
        return f"Load the kernel's overlay file system: sudo modprobe overlay{_SEE}"
    if code == errno.ENOSPC:
        return f"The file system that has the writable layers is full: free some of it, or set TMPDIR elsewhere{_SEE}"
    if code == errno.EPERM:
        return f"Without root, Linux 5.11 or newer is needed; or run pytest as root{_SEE}"
    return (
        "Overlays can be stacked two deep: inside a container or another sandbox whose own root is an overlay of an "
        f"overlay there is no level left. Otherwise set TMPDIR to a folder on ext4, xfs, btrfs or tmpfs{_SEE}"
    )
