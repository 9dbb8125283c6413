"""cgroups: where ours may live, the group of this worker, and what to write there for a Spec.

:func:`find` walks the discovery ladder and returns a :class:`Tree`, which is the same for v1, v2 and hybrid hosts.
"""

from __future__ import annotations

from pytest_isolate.cgroups.interface import Reading, Tree
from pytest_isolate.cgroups.ladder import find
from pytest_isolate.cgroups.names import first_process, session_name
from pytest_isolate.cgroups.tree import cores

__all__ = ["Reading", "Tree", "cores", "find", "first_process", "session_name"]
