"""Which trees of this host take a writable layer, and which have gone since they were looked at."""

from __future__ import annotations

import errno
from collections.abc import Callable

from pytest_isolate.linux import files
from pytest_isolate.linux.mountinfo import below
from pytest_isolate.plan.host import Host
from pytest_isolate.plan.host_tree import HostTree
from pytest_isolate.plan.plan import Plan
from pytest_isolate.plan.planner import plan_for
from pytest_isolate.plan.rootfs import NEW
from pytest_isolate.sandbox.probe.remedies import lack
from pytest_isolate.spec.errors import SetupError
from pytest_isolate.spec.spec import Spec

#: Builds a Plan and takes it down again; the error if it could not be built.
Attempt = Callable[[Plan], SetupError | None]
#: Trees in which an overlay may be refused before the host counts as one without overlays.
_PATIENCE = 64
#: The same for overlays that take no further one: where one on the host's is too many, it is too many everywhere.
_STACKED = 8


def without_removed(host: Host, error: SetupError) -> Host | None:
    """``host`` without the directory that ``error`` names, if somebody has removed it since the look; else None.

    Who removes one may remove the next: in /tmp of a busy machine a look would be outdated each time.
    """
    path, tree = error.target.removeprefix(NEW), host.tree
    if error.errno != errno.ENOENT or path in tree.left_out or not tree.shows(path) or files.exists(path):
        return None
    return host._replace(tree=tree._replace(left_out={**tree.left_out, path: error.errno}))


def try_trees(attempt: Attempt, host: Host) -> tuple[Host, SetupError | None]:
    """Learn which trees refuse an overlay; they will be shown read-only, or left out if even that is refused."""
    error: SetupError | None = None
    stacked = 0
    for _ in range(_PATIENCE):
        plan = plan_for(Spec(), host)
        error = attempt(plan)
        if error is None:
            return host, None
        if (smaller := without_removed(host, error)) is not None:
            host = smaller
            continue
        path = error.target.removeprefix(NEW)
        facts = host.tree
        if not facts.session_layers:  # of a session sandbox all can be covered but what is shown piece by piece
            stacked += error.errno == errno.EINVAL and _is_on_an_overlay(path, facts)
        if stacked == _STACKED:
            return host, error
        shown = {layer.seen for layer in plan.layers} - {"/"}
        if path in shown and error.errno not in (errno.ENOMEM, errno.ENOSPC):
            facts = facts._replace(refused={**facts.refused, path: error.errno})
        elif path in facts.refused or any(mount.point == path for mount in facts.mounts):
            facts = facts._replace(left_out={**facts.left_out, path: error.errno})
        else:
            return host, error
        host = host._replace(tree=facts, lacks=(*host.lacks, lack("tree", error)))
    return host, error


def _is_on_an_overlay(path: str, tree: HostTree) -> bool:
    on = [mount for mount in tree.mounts if path == mount.point or below(path, mount.point)]
    return bool(on) and max(on, key=lambda mount: len(mount.point)).kind == "overlay"
