"""What threads of pytest's process log while it waits for a test: in a plain run, it is in the test's report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from _pytest.logging import LogCaptureHandler, catching_logs  # no public names; the same in 8.0, 9.0, 9.2

if TYPE_CHECKING:
    from typing_extensions import Self


class ThreadLogs:
    """Listens during the ``with`` block, as pytest does round each phase of a test."""

    def __init__(self, plugin: Any) -> None:
        """:param plugin: pytest's ``logging-plugin``. Private: its ``formatter`` and ``log_level``, 8.0 to 9.2."""
        self._handler = LogCaptureHandler()
        self._handler.setFormatter(plugin.formatter)
        self._catching = catching_logs(self._handler, level=plugin.log_level)

    def __enter__(self) -> Self:
        """Listen from now on."""
        self._catching.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """:meth:`stop`."""
        self.stop()

    def stop(self) -> None:
        """Listen no longer. Called in the child, too, where the test's own capture takes over."""
        self._catching.__exit__(None, None, None)

    def text(self) -> str:
        """What was logged so far."""
        return self._handler.stream.getvalue().strip()
