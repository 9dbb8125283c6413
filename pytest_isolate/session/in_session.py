"""Whether this process is in a session sandbox, by what the kernel shows of it."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_isolate.plan.session_layers import SESSION

#: Name of each sandbox's PID 1 (_native/init.c). No machine's, and no container's, is called so.
_INIT = "isolate-init"


def has_mark() -> bool:
    """Whether there is what only our sandboxes have.

    In that of a session its layers are mounted. That of a test above it does not show them, but has a PID 1 of ours.
    """
    return os.path.ismount(SESSION) or _init_is_ours()


def _init_is_ours() -> bool:
    try:
        return Path("/proc/1/comm").read_text().strip() == _INIT
    except OSError:  # hidden (hidepid, proc(5)), or not ours to read
        return False
