"""Why a group can't be used, and what the user can do: the sentences of ``CgroupTree.lacks``."""

from __future__ import annotations

import errno

from pytest_isolate.cgroups.hierarchies import Version
from pytest_isolate.linux.calls import calls

#: Our controllers that a limit of the contract, or a time-out's freeze, may need.
NEEDED = ("memory", "swap", "cpu", "cpuset", "pids", "io", "freezer")
SCOPE = "Run `systemd-run --user --scope -p Delegate=yes pytest ...`"
#: On v1: a group in each hierarchy. A new one in cpuset can hold no process before it has cores and nodes (cpusets(7)).
GIVEN = (
    "use `pytest --isolate-cgroup=/tests` with a group of yours: sudo sh -c 'cd /sys/fs/cgroup; for each in */; do "
    "mkdir -p $each/tests; chown -R $0 $each/tests; done; for each in cpus mems; do cat cpuset/cpuset.$each "
    ">cpuset/tests/cpuset.$each; done' $USER"
)
#: On v2 nobody may move a process out of a group that is not theirs (cgroups(7)), so a group's name is of no use alone.
MOVED = (
    "move your shell into a group of yours, and start pytest in it: sudo sh -c 'cd /sys/fs/cgroup; for each in $(cat "
    "cgroup.controllers); do echo +$each >cgroup.subtree_control; done; mkdir tests; chown -R $0 tests; "
    "echo $1 >tests/cgroup.procs' $USER $$"
)
CONTAINER = (
    "In a container: docker run --privileged --cgroupns=private, or podman run --security-opt unmask=/sys/fs/cgroup; "
    "or mount a writable group and name it by --isolate-cgroup=/NAME"
)
MOUNT = (
    "Mount one (`mount -t cgroup2 cgroup2 /sys/fs/cgroup` as root), with a kernel that has the controller; "
    "if it is a container, have its engine mount it"
)
DELEGATE = (
    "Have it handed down. By systemd, and log in anew: sudo sh -c 'cd /etc/systemd/system; mkdir -p user@.service.d; "
    'printf "[Service]\\nDelegate=cpu cpuset io memory pids\\n" >user@.service.d/delegate.conf; systemctl '
    "daemon-reload'. Else by `echo +NAME >cgroup.subtree_control` as root, from the top group downwards."
)
ABSENT = (
    "No group above has it either: the kernel is built without it, a v1 hierarchy has it (see /proc/self/mountinfo), "
    "or, in a container, the engine does not hand it down."
)


class Refusal(Exception):  # noqa: N818 - no error for the user by itself: it ends as an entry of ``lacks``
    """A group, or a controller in it, that can't be used: reason with object and errno, and remedy."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy


def because(doing: str, error: OSError, version: Version) -> Refusal:
    """The refusal for an errno of the kernel. :param doing: what was tried, on what, in words."""
    place = f" ({error.filename})" if isinstance(error.filename, str) and error.filename not in doing else ""
    code = errno.errorcode.get(error.errno or 0)
    why = str(error) if code is None else f"{code} ({calls.strerror(error.errno or 0)})"
    reason = f"cannot {doing}{place}: {why}"
    given = MOVED if version is Version.V2 else GIVEN
    if error.errno == errno.EROFS:
        return Refusal(reason, CONTAINER + ".")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Refusal(reason, f"{SCOPE}, or {given}" if version is Version.V2 else f"Run as root, or {given}")
    if error.errno in (errno.EBUSY, errno.EAGAIN):
        return Refusal(reason, f"{SCOPE}, so that the group holds only your own processes, or {given}")
    if error.errno == errno.EINVAL and doing.startswith("enter"):
        return Refusal(reason, "A process with real-time priority can't enter a cpu group: start pytest without chrt.")
    return Refusal(reason, f"Use another group: {given}")
