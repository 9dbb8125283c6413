"""What threads of pytest's process log and write while it waits for a test: in a plain run, it is in the test's report.

Captured output goes to where pytest captures the test's own. With ``--capture=fd`` that is one file for both processes,
so it is in the report of its phase. Else it is what :meth:`Isolation.take_unread_output` finds at the end.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from _pytest.logging import LogCaptureHandler, catching_logs  # no public names; the same in 8.0, 9.0, 9.2

if TYPE_CHECKING:
    import pytest
    from typing_extensions import Self


class ThreadLogs:
    """Listens during the ``with`` block, as pytest does round each phase of a test.

    Private: ``formatter`` and ``log_level`` of pytest's ``logging-plugin``, and how its ``capturemanager`` is resumed
    and suspended; 8.0 to 9.2.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._logging = config.pluginmanager.getplugin("logging-plugin")
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._handler = LogCaptureHandler()
        self._listening = ExitStack()

    def __enter__(self) -> Self:
        """Listen from now on."""
        if self._capture is not None and self._capture.is_globally_capturing():
            for stream in (sys.stdout, sys.stderr):  # what is for the terminal; the fork sees to what is captured
                with suppress(Exception):  # a fixture has closed or replaced it: its own affair
                    stream.flush()
            self._capture.resume_global_capture()
            self._listening.callback(self._capture.suspend_global_capture, in_=False)
        if self._logging is not None:
            self._handler.setFormatter(self._logging.formatter)
            self._listening.enter_context(catching_logs(self._handler, level=self._logging.log_level))
        return self

    def __exit__(self, *_: object) -> None:
        """:meth:`stop`."""
        self.stop()

    def stop(self) -> None:
        """Listen no longer. Called in the child, too, where the test's own capture takes over."""
        self._listening.close()

    def text(self) -> str:
        """What was logged so far."""
        return self._handler.stream.getvalue().strip()
