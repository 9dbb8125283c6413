"""What has to come before all libraries and tests, by being imported at each start of pytest.

Fork handlers are registered (``_native/atfork.c``), and from then on Python's small objects lie in blocks of 2 MB
(``_native/arenas.c``).
"""

from __future__ import annotations

try:
    from pytest_isolate.linux._native._atfork import fork_by_helper
except ImportError:  # not Linux, or an installation without the compiled part: native.available() says so
    fork_by_helper = 0

FORK_BY_HELPER: int = fork_by_helper  #: address of the C function; 0 where there is none
