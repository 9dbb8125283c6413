"""cgroups: where ours may live, the group of this worker, and what to write there for a Spec.

:func:`find` walks the discovery ladder and returns a :class:`Tree`, which is the same for v1, v2 and hybrid hosts.
"""

from __future__ import annotations

from pytest_isolate.cgroups.interface import Reading, Tree
from pytest_isolate.cgroups.ladder import find
from pytest_isolate.cgroups.names import session_name

__all__ = ["Reading", "Tree", "find", "session_name"]
