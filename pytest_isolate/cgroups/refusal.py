"""Why a group can't be used, and what the user can do: the sentences of ``Tree.lacks``."""

from __future__ import annotations

import errno
import os

#: Our controllers that a limit of the contract, or a time-out's freeze, may need.
NEEDED = ("memory", "swap", "cpu", "cpuset", "pids", "io", "freezer")

SCOPE = "Run `systemd-run --user --scope -p Delegate=yes pytest ...`"
GIVEN = "let root make a group, `chown -R` it to you, and name it by --isolate-cgroup=/NAME"
CONTAINER = (
    "In a container: docker run --privileged --cgroupns=private, or podman run --security-opt unmask=/sys/fs/cgroup; "
    "or mount a writable group and name it by --isolate-cgroup=/NAME"
)
MOUNT = (
    "Mount one (`mount -t cgroup2 cgroup2 /sys/fs/cgroup` as root), with a kernel that has the controller; "
    "if it is a container, have its engine mount it"
)
DELEGATE = (
    "Have it enabled above: for systemd `Delegate=cpu cpuset io memory pids` in user@.service, "
    "else `echo +NAME > cgroup.subtree_control` from the root downwards"
)


class Refusal(Exception):  # noqa: N818 - no error for the user by itself: it ends as an entry of ``lacks``
    """A group, or a controller in it, that can't be used: reason with object and errno, and remedy."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy


def because(doing: str, error: OSError, version: int) -> Refusal:
    """The refusal for an errno of the kernel. :param doing: what was tried, on what, in words."""
    code = errno.errorcode.get(error.errno or 0, str(error.errno))
    place = f" ({error.filename})" if isinstance(error.filename, str) and error.filename not in doing else ""
    reason = f"cannot {doing}{place}: {code} ({os.strerror(error.errno or 0)})"
    if error.errno == errno.EROFS:
        return Refusal(reason, CONTAINER + ".")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Refusal(reason, f"{SCOPE}, or {GIVEN}." if version == 2 else f"Run as root, or {GIVEN}.")  # noqa: PLR2004
    if error.errno in (errno.EBUSY, errno.EAGAIN):
        return Refusal(reason, f"{SCOPE}, so that the group holds only your own processes, or {GIVEN}.")
    if error.errno == errno.EINVAL and doing.startswith("enter"):
        return Refusal(reason, "A process with real-time priority can't enter a cpu group: start pytest without chrt.")
    return Refusal(reason, f"Use another group: {GIVEN}.")
