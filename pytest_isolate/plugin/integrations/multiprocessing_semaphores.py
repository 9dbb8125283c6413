"""multiprocessing: semaphores that a test has left are unlinked, as at the end of a plain run.

multiprocessing does that in a handler of the interpreter's end, which the child does not come to. Then its resource
tracker says on standard error that they leaked, be it the session's tracker at the end of the run or the test's own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

from pytest_isolate.plugin.integrations.integration import Integration
from pytest_isolate.plugin.messages import Send


class MultiprocessingSemaphores(Integration):
    """Costs a few look-ups where multiprocessing is not used."""

    def after(self) -> Callable[[Send], None]:
        """For all tests: one may import multiprocessing inside."""
        return _unlink


def _unlink(_: Send) -> None:
    """In the child.

    Private: ``multiprocessing.util._finalizer_registry`` and ``SemLock._cleanup``, 3.10 to 3.14. joblib's are in the
    former, too. A finaliser of another process's does nothing.
    """
    for package in ("multiprocessing", "multiprocess"):
        util = sys.modules.get(f"{package}.util")
        registry = getattr(util, "_finalizer_registry", None)
        if registry:
            for finalize in [*registry.values()]:
                if getattr(getattr(finalize, "_callback", None), "__qualname__", "") == "SemLock._cleanup":
                    with suppress(Exception):  # the test has unlinked it by itself
                        finalize()
