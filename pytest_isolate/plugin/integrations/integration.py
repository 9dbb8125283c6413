"""What the package does for one other plugin: when, and in which process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_isolate.plugin.messages import Send

if TYPE_CHECKING:
    from pytest_isolate.sandbox.channel import Line

#: Makes, in the child, what is entered before the test's protocol and left after it.
Forwarder = Callable[["Line"], AbstractContextManager[None]]


class Integration:
    """One plugin that keeps in memory what it knows of tests, and would lose it with the sandbox.

    A subclass overrides what its plugin needs. One instance lives as long as pytest's session. Where the plugin is not
    loaded, or looks otherwise than expected, the methods do nothing.
    """

    kinds: tuple[str, ...] = ()  #: of messages (:mod:`pytest_isolate.plugin.messages`) that :meth:`receive` takes
    makereport_outside: tuple[str, ...] = ()  #: names of the plugin, whose ``pytest_runtest_makereport`` runs outside

    #: Whether tests may write to :meth:`folders` at the same time, and one that is thrown away after that does no harm.
    shares_folders = False

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def is_inside(self, definition: pytest.FixtureDef[Any]) -> bool:
        """Outside, once for each fixture of class scope or higher: whether each sandbox sets it up for itself."""
        return False

    def stands_alone(self, item: pytest.Item) -> bool:
        """Outside, before the test: whether no other may run at the same time."""
        return False

    def folders(self, item: pytest.Item) -> list[str]:
        """Outside, before the test: folders of the host that the plugin writes to from inside."""
        return []

    def before(self, item: pytest.Item, attempts: int) -> Callable[[], object] | None:
        """Outside, before the fork: what the child is to do before the test.

        :param attempts: how many attempts there have been, in sandboxes that died.
        """

    def around(self, item: pytest.Item) -> Forwarder | None:
        """Outside, before the fork: what the child is to have round the test's protocol."""

    def after(self) -> Callable[[Send], None] | None:
        """Outside, before the fork: what the child is to do after the test. Cheaper than :meth:`around`."""

    def receive(self, item: pytest.Item, kind: str, data: Any) -> None:
        """Outside: give the plugin what the child sent.

        :raises Exception: of any kind, if ``data`` is not what the child sends.
        """

    def outcomes(self) -> tuple[str, ...]:
        """What a report may have as outcome beside pytest's own."""
        return ()

    def log(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Outside, before a report of the test is logged; not called for reports of sub-tests."""

    def logged(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Outside, when a report of the test has been logged; not called for reports of sub-tests."""

    def finish(self) -> None:
        """Outside: all tests have been run."""
