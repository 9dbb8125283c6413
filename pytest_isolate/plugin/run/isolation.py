"""What one session of pytest has for all its isolated tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_isolate.plugin import fixtures, higher_scoped_fixtures, hook_callers
from pytest_isolate.plugin.config import item_specs, options
from pytest_isolate.plugin.integrations import xdist
from pytest_isolate.plugin.integrations.registry import Integrations
from pytest_isolate.plugin.run import jobs, watchdog
from pytest_isolate.plugin.run.fixture_placement import Placement
from pytest_isolate.plugin.run.isolated_item import IsolatedItem
from pytest_isolate.plugin.run.report_sender import Messenger
from pytest_isolate.plugin.run.session_keeper import SessionKeeper
from pytest_isolate.plugin.run.session_threads import SessionThreads
from pytest_isolate.spec.errors import IsolateError, UnsupportedError

if TYPE_CHECKING:
    from pytest_isolate.plugin.run.beside import Beside
    from pytest_isolate.plugin.run.earlier_tests import EarlierTests
    from pytest_isolate.plugin.run.kept_layers import KeepLayer, KeptLayers
    from pytest_isolate.plugin.run.session_descriptors import SessionDescriptors
    from pytest_isolate.session.keeper import Keeper
    from pytest_isolate.spec.spec import Spec


class Isolation:
    """Runs the isolated items of one session through one keeper, which it makes when it is first needed."""

    descriptors: SessionDescriptors  #: only where tests may run side by side

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.settings = config.stash[options.SETTINGS]
        self.session_keeper = SessionKeeper(config)
        self.integrations = Integrations(config, self.settings.makereport_outside)
        self.threads = SessionThreads(fixtures.FIRST_THREADS)
        watched: list[Callable[[str], AbstractContextManager[None]]] = [self.threads.started_by]
        asked = self.settings.jobs
        self.jobs = 1 if asked == 1 else jobs.count(asked, xdist.worker_count(config))  #: that may run at a time
        if self.jobs > 1:
            from pytest_isolate.plugin.run.session_descriptors import SessionDescriptors  # noqa: PLC0415 - only then

            self.descriptors = SessionDescriptors()
            watched.append(self.descriptors.opened_by)
        self.placement = Placement(self.settings.fixtures_inside, self._is_inside, watched)
        self.messenger = Messenger(config)
        self.messenger.register()
        self.in_turn: str | None = None  #: why tests run one at a time, though it was asked for more
        self._kept_layers: KeptLayers | None = None
        if self.settings.keep:  # before a fixture replaces HOME, by which the store is found
            from pytest_isolate.plugin.run.kept_layers import KeptLayers  # noqa: PLC0415 - only if it is asked for

            self._kept_layers = KeptLayers(self.settings, self.session_keeper.folders)
        self._beside: tuple[Beside | None] | None = None  # None: it is not known yet
        self._left: int | None = None  # isolated tests to come
        self._told: dict[str, str] = {}  # what the host lacks, and the test beside which it is told

    def _is_inside(self, definition: pytest.FixtureDef[Any]) -> bool:
        """One that does nothing takes least time outside; but tests of two classes could not run at the same time."""
        several = self.jobs > 1
        return self.integrations.is_inside(definition) or (several and higher_scoped_fixtures.does_nothing(definition))

    def beside(self, session: pytest.Session) -> Beside | None:
        """None: tests run one at a time. Not before collection: a conftest.py file may stand in the way."""
        if self._beside is None:
            self._beside = (self._make_beside(session),)
        return self._beside[0]

    def _make_beside(self, session: pytest.Session) -> Beside | None:
        if self.jobs == 1 or self._count(session) < 2:  # noqa: PLR2004 - one is beside no other
            return None
        from pytest_isolate.plugin.run import beside  # noqa: PLC0415 - not for one test, nor one at a time

        self.in_turn = beside.obstacle(self.config, self.integrations.outside, asked=self.settings.jobs_asked)
        if self.in_turn:
            return None
        self.descriptors.add_collected(self.config.stash[fixtures.FIRST_DESCRIPTORS])
        return beside.Beside(self, self.jobs)

    def keep_layer(self, item: pytest.Item) -> KeepLayer | None:
        """What is to be called at the end of a run of ``item``, if layers are kept."""
        return None if self._kept_layers is None else partial(self._kept_layers.keep, item.nodeid)

    @cached_property
    def earlier(self) -> EarlierTests:
        """What is known of tests that have run."""
        from pytest_isolate.plugin.run.earlier_tests import EarlierTests  # noqa: PLC0415 - if one leaves files, or fails

        return EarlierTests()

    def keeper(self) -> Keeper:
        """The keeper, for sandboxes that are not tests'. :raises IsolateError: there is none."""
        return self.session_keeper.get()

    def describe(self) -> str:
        """What is in force, for pytest's header."""
        keeper = self.session_keeper.keeper
        return f"not available: {keeper}" if isinstance(keeper, IsolateError) else keeper.describe()

    def notes(self, item: pytest.Item, specs: Iterable[Spec]) -> Iterator[str]:
        """Lines for the header: what ``--isolate-unsupported=degrade`` leaves out, and what is named in vain.

        :param item: any of the run.
        """
        keeper = self.session_keeper.keeper
        if not isinstance(keeper, IsolateError) and self.settings.unsupported == "degrade":
            keys = {key: None for spec in specs for key, _ in keeper.degraded(spec)}
            if keys:
                yield f"isolate: NOT in force (--isolate-unsupported=degrade): {', '.join(keys)}"
        native = self.threads.native()
        if native and watchdog.end():
            yield watchdog.NOTE
            native = self.threads.native()
        if native:
            kinds = ", ".join(sorted({name.partition(" (")[0] for name in native}))
            threads = "1 native thread" if len(native) == 1 else f"{len(native)} native threads"
            verb = "is" if len(native) == 1 else "are"
            yield f"isolate: {threads} of pytest's process {verb} in no sandbox: {kinds}"
        if unknown := higher_scoped_fixtures.find_unknown(item, self.settings.fixtures_inside):
            # No error: a run of some of the tests need not have the conftest.py file that has the fixture.
            yield f"isolate: isolate_fixtures_inside names what is no fixture of this run: {', '.join(unknown)}"
        beside = self.beside(item.session)
        asked, verbose = self.settings.jobs_asked, self.config.option.verbose
        if self.in_turn and (asked or verbose > 0):
            yield f"isolate: 1 job at a time, as {self.in_turn}"
        if beside is not None and (asked or verbose >= 0):
            yield f"isolate: {beside.jobs} at a time"
        plugins = hook_callers.find_plugins(self.config, self.settings.makereport_outside)
        if unknown := [name for name, found in plugins.items() if not found]:
            yield f"isolate: isolate_makereport_outside names what is no plugin of this run: {', '.join(unknown)}"

    def tell_lack(self, error: IsolateError, item: pytest.Item) -> str:
        """Why ``item`` is not run. What the host lacks takes a paragraph, so further tests only name the first."""
        text = str(error)
        if not isinstance(error, UnsupportedError):
            return text
        first = self._told.setdefault(text, item.nodeid)
        return text if first == item.nodeid else f"{error.key} cannot be enforced here, as is told beside {first}."

    def run_protocol(self, item: pytest.Item, nextitem: pytest.Item | None, spec: Spec, ahead: Spec | None) -> None:
        """The whole of ``pytest_runtest_protocol`` for one item. :param ahead: the spec of the next item."""
        hooks = item.ihook  # once, as pytest's own runner: it is looked up anew each time
        hooks.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        try:
            if (beside := self.beside(item.session)) is None:
                IsolatedItem(self, item, nextitem, spec, ahead).run_phases()
            else:
                beside.take(item, nextitem, spec).run_phases()
        finally:
            # As pytest's own runner does, so that fixture values do not live as long as the session.
            # Private: Item._request, 8.0 to 9.2.
            if hasattr(item, "_request"):
                item._request = False
                item.funcargs = None  # type: ignore[attr-defined]
        hooks.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def count_remaining(self, session: pytest.Session) -> int:
        """About how many isolated tests are still to run in this process, with the one that asks."""
        if self._left is None:
            self._left = self._count(session) // xdist.worker_count(self.config)
        self._left -= 1
        return self._left + 1

    def _count(self, session: pytest.Session) -> int:
        return sum(item_specs.spec_for(item) is not None for item in session.items)

    def take_unread_output(self) -> dict[str, str]:
        """What the child wrote and did not read back, by stream: all of the phase in which it died.

        With ``--capture=fd`` both processes write to one file. Of ``--capture=sys`` nothing is left, as it died with
        the child's memory; then this empties our own copy. ``CaptureManager.read_global_capture`` has no public name;
        8.0 to 9.2.
        """
        capture = self.config.pluginmanager.getplugin("capturemanager")
        if capture is None or not capture.is_globally_capturing():
            return {}
        out, err = capture.read_global_capture()
        return {"stdout": out, "stderr": err}

    def look_again(self) -> None:
        """Look anew at what this session's processes serve, which may have changed."""
        self.session_keeper.look_again()

    def finish(self) -> None:
        """Let other plugins know that all tests have been run. For the end of ``pytest_runtestloop``."""
        for beside in filter(None, self._beside or ()):
            beside.discard_all()
        self.integrations.finish()

    def close(self) -> None:
        """End the keeper, if there is one."""
        for beside in filter(None, self._beside or ()):
            beside.close()
        self.session_keeper.close()
