"""An item run in a sandbox, seen from the pytest process.

What happens to one test, in order:

1. Fixtures of class, module, package and session scope (:mod:`pytest_isolate.wider`) are set up here, as part of the
   set-up phase of the first test that asks for them, so that they exist once and the sandbox sees them by
   copy-on-write.
2. The keeper forks; the child runs the item's own protocol (:mod:`pytest_isolate.inside`) and sends its reports as
   plain data.
3. Here the reports are rebuilt (:mod:`pytest_isolate.verdict`) and logged, and what no later test needs is torn down,
   as part of this test's tear-down phase.

The item stays on pytest's set-up stack from 1 to 3, as it does in a plain run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from pytest_isolate import inside, keepsakes, measuring, neighbours, options, plugins, reports, verdict, wider
from pytest_isolate.errors import IsolateError, SetupError, UnsupportedError
from pytest_isolate.keeping import Keeping
from pytest_isolate.overhearing import Overheard
from pytest_isolate.placement import Placement
from pytest_isolate.session import Interrupted

if TYPE_CHECKING:
    from pytest_isolate.guest import Line
    from pytest_isolate.outcome import Outcome
    from pytest_isolate.session import Keeper
    from pytest_isolate.spec import Spec
    from pytest_isolate.wider import Wider

_NOT_RUN = (pytest.skip.Exception, pytest.xfail.Exception)


class Isolation:
    """Runs the isolated items of one session through one keeper, which it makes when it is first needed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._settings = config.stash[options.SETTINGS]
        self._worker: dict[str, Any] | None = getattr(config, "workerinput", None)
        self._keeping = Keeping(config)
        self._placement = Placement([*self._settings.fixtures_inside, *neighbours.FIXTURES_INSIDE])
        self._measured = measuring.Measured()
        self._left: int | None = None  # isolated tests to come
        outside = plugins.named(config, {*self._settings.makereport_outside, *neighbours.MAKEREPORT_OUTSIDE})
        self._makereport_outside = set().union(*outside.values())
        self._messenger = inside.Messenger(config)
        self._messenger.register()

    def keeper(self) -> Keeper:
        """The keeper, for sandboxes that are not tests'. :raises IsolateError: there is none."""
        return self._keeping.get()

    def describe(self) -> str:
        """What is in force, for pytest's header."""
        keeper = self._keeping.keeper
        return f"not available: {keeper}" if isinstance(keeper, IsolateError) else keeper.describe()

    def notes(self, item: pytest.Item, specs: Iterable[Spec]) -> Iterator[str]:
        """Lines for the header: what ``--isolate-unsupported=degrade`` leaves out, and what is named in vain.

        :param item: any of the run.
        """
        keeper = self._keeping.keeper
        if not isinstance(keeper, IsolateError) and self._settings.unsupported == "degrade":
            keys = {key: None for spec in specs for key, _ in keeper.degraded(spec)}
            if keys:
                yield f"isolate: NOT in force (--isolate-unsupported=degrade): {', '.join(keys)}"
        if unknown := wider.unknown(item, self._settings.fixtures_inside):
            # No error: a run of some of the tests need not have the conftest.py file that has the fixture.
            yield f"isolate: isolate_fixtures_inside names what is no fixture of this run: {', '.join(unknown)}"
        wanted = plugins.named(self._config, self._settings.makereport_outside)
        if strange := [name for name, found in wanted.items() if not found]:
            yield f"isolate: isolate_makereport_outside names what is no plugin of this run: {', '.join(strange)}"

    def hand_over_coverage(self) -> None:
        """Add what the tests covered to coverage's data. For the end of ``pytest_runtestloop``."""
        self._measured.hand_over()

    def look_again(self) -> None:
        """What this session's processes serve may have changed."""
        self._keeping.look_again()

    def close(self) -> None:
        """End the keeper, if there is one."""
        self._keeping.close()

    def protocol(self, item: pytest.Item, nextitem: pytest.Item | None, spec: Spec, ahead: Spec | None) -> None:
        """The whole of ``pytest_runtest_protocol`` for one item. :param ahead: the spec of the next item."""
        spec = keepsakes.with_folders(item, spec)
        if nextitem is not None and ahead is not None:
            ahead = keepsakes.with_folders(nextitem, ahead)
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        try:
            self._phases(item, nextitem, spec, ahead)
        finally:
            # As pytest's own runner does, so that fixture values do not live as long as the session.
            # Private: Item._request, 8.0 to 9.2.
            if hasattr(item, "_request"):
                item._request = False
                item.funcargs = None  # type: ignore[attr-defined]
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _phases(self, item: pytest.Item, nextitem: pytest.Item | None, spec: Spec, ahead: Spec | None) -> None:
        lack = self._keeping.lack(spec)
        outside, apart = self._placement.of(item)
        setup = self._wider_setup(item, nextitem, lack, outside)
        raised = None if setup.excinfo is None else setup.excinfo.value
        if lack is not None and raised is lack:
            self._without_sandbox(item, nextitem, self._refusal(item, lack))
            return
        if isinstance(raised, _NOT_RUN) and item not in item.session._setupstate.stack:
            # A skip mark, or xfail(run=False): no fixture was asked for.
            self._without_sandbox(item, nextitem, reports.made(item, setup))
            return
        attempts = 0
        while True:
            try:
                with self._overhearing() as overheard:
                    outcome = self._run(item, spec, ahead, self._prepared(item, raised, attempts, apart, overheard))
            except (IsolateError, OSError) as error:
                why = SetupError.of("run the test", error) if isinstance(error, OSError) else error
                self._settle(item)
                self._without_sandbox(item, nextitem, self._refusal(item, why))
                return
            came = self._received(item, outcome)
            if overheard is not None:
                came.add_log(overheard.text())
            attempts += 1 + len(came.earlier)
            over = came.interrupt is not None or outcome.failure() is None or not came.failed()
            if over or not neighbours.reruns_left(item, attempts):
                break
            came.to_be_rerun()
            self._log_earlier(item, came)
            neighbours.wait_before_rerun(item)
        self._report(item, nextitem, came)

    def _refusal(self, item: pytest.Item, error: IsolateError) -> pytest.TestReport:
        if self._settings.unsupported == "skip" and isinstance(error, UnsupportedError):
            return reports.skipped(item, str(error))
        return reports.sandbox_error(item, str(error))

    def _without_sandbox(self, item: pytest.Item, nextitem: pytest.Item | None, setup: pytest.TestReport) -> None:
        """The end of a test that was not run."""
        self._log(item, setup)
        self._log(item, self._wider_teardown(item, nextitem))

    def _wider_setup(
        self, item: pytest.Item, nextitem: pytest.Item | None, lack: IsolateError | None, needed: Iterable[Wider]
    ) -> pytest.CallInfo[object]:
        """Do out here what belongs out here of the set-up phase, unless ``lack`` says that it would be in vain.

        Of the phase's hooks only pytest's own run; see :mod:`pytest_isolate.plugins`. Where all has been set up by a
        test before, and stays, only those are run that tell of what went wrong in this process meanwhile.
        """
        if lack is None and wider.stands(item, needed) and wider.stays(item, nextitem):
            return reports.call_of(
                "setup", plugins.own_hook(self._config, "pytest_runtest_setup", watching=True), item=item
            )
        return self._whole_setup(item, lack)

    def _whole_setup(self, item: pytest.Item, lack: IsolateError | None) -> pytest.CallInfo[object]:
        def setup() -> None:
            __tracebackhide__ = True
            if lack is not None:
                raise lack
            if (
                getattr(type(item), "_testcase", item) is None
            ):  # pytest before 8.2 binds setUpClass to an instance that it keeps here
                item._testcase = item.parent.obj(item.name)  # type: ignore[attr-defined, union-attr]
            self._placement.set_up(item)

        item.setup = setup  # type: ignore[method-assign]
        item.teardown = lambda: None  # type: ignore[method-assign]  # of the set-up that is done inside
        try:
            return reports.call_of("setup", plugins.own_hook(self._config, "pytest_runtest_setup"), item=item)
        finally:
            del item.setup, item.teardown

    def _wider_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> pytest.TestReport:
        """Tear down out here what ``nextitem`` does not need; the report of a phase that did only this."""
        session = item.session
        following = None if session.shouldfail or session.shouldstop else nextitem  # as pytest does (its issue 11706)
        hook = plugins.own_hook(self._config, "pytest_runtest_teardown")
        call = reports.call_of("teardown", hook, item=item, nextitem=following)
        report = reports.made(item, call)
        if call.excinfo is not None and report.failed:  # for --pdb; of what failed inside, it was told inside
            item.ihook.pytest_exception_interact(node=item, call=call, report=report)
        return report

    def _settle(self, item: pytest.Item) -> None:
        """Make up for a set-up that was left out: there is something to tear down after all."""
        if item not in item.session._setupstate.stack:
            self._whole_setup(item, None)

    def _prepared(
        self,
        item: pytest.Item,
        failure: BaseException | None,
        attempts: int,
        apart: Iterable[Wider],
        overheard: Overheard | None,
    ) -> Callable[[Line], None]:
        return inside.prepared(
            item,
            failure,
            attempts,
            overheard=overheard,
            apart=apart,
            coverage=self._measured.before_fork(),
            messenger=self._messenger,
        )

    def _run(self, item: pytest.Item, spec: Spec, ahead: Spec | None, body: Callable[[Line], None]) -> Outcome:
        # pytest-timeout's alarm would go off in our waiting; the sandbox's own time-out stands for it.
        if (cancel := getattr(item, "cancel_timeout", None)) is not None:
            cancel()
        if self._config.pluginmanager.hasplugin("faulthandler") and self._config.getini("faulthandler_timeout"):
            import faulthandler  # noqa: PLC0415 - pytest loads it late as well

            faulthandler.cancel_dump_traceback_later()  # would show this process waiting; the child starts it anew
        keep = keepsakes.base_of_tmp_path(item)
        try:
            return self._keeping.get().run(spec, body, ahead=ahead, keep=keep, more=self._remaining(item))
        except Interrupted as end:  # raised again when what came of it has been reported
            return end.outcome

    def _overhearing(self) -> AbstractContextManager[Overheard | None]:
        """Listens to this process's threads, if they may log: of a server in a wider-scoped fixture, for one."""
        plugin = self._config.pluginmanager.getplugin("logging-plugin")
        return nullcontext() if plugin is None or not self._placement.threads() else Overheard(plugin)

    def _remaining(self, item: pytest.Item) -> int:
        """About how many isolated tests are still to run in this process, with this one."""
        if self._left is None:
            workers = 1 if self._worker is None else self._worker["workercount"]
            self._left = sum(options.spec_for(other) is not None for other in item.session.items) // workers
        self._left -= 1
        return self._left + 1

    def _received(self, item: pytest.Item, outcome: Outcome) -> verdict.Received:
        """What came out, completed by how the run ended; tells the hook and passes warnings on."""
        came = verdict.received(item, outcome, self._measured, controlled=self._worker is not None)
        verdict.conclude(item, came, outcome, unread=self._unread_output(), threads=self._placement.threads())
        if hasattr(item.ihook, "pytest_isolate_outcome"):
            item.ihook.pytest_isolate_outcome(item=item, outcome=outcome)
        for lost in outcome.lost:
            warnings.warn(f"of tmp_path is lost {lost}", stacklevel=1)
        for warning in came.warnings:
            # Into the list that pytest's warnings plugin keeps round the protocol; the filters were applied inside.
            warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
        return came

    def _log_earlier(self, item: pytest.Item, came: verdict.Received) -> None:
        """Log the attempts that are followed by another, each as a whole."""
        for attempt in came.earlier:
            for report in attempt:
                self._log(item, report)
            item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
            item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)

    def _report(self, item: pytest.Item, nextitem: pytest.Item | None, came: verdict.Received) -> None:
        self._log_earlier(item, came)
        teardown = came.last("teardown")
        for report in came.reports:
            if report is not teardown:
                self._log(item, report)
        for name, value in came.stops:
            setattr(item.session, name, value)
        if isinstance(end := came.interrupt, pytest.exit.Exception) and end.returncode == pytest.ExitCode.USAGE_ERROR:
            options.end_run(self._config, str(end.msg))
        if came.interrupt is not None:
            raise came.interrupt
        if teardown is None or not wider.stays(item, nextitem):
            self._settle(item)
            report = self._wider_teardown(item, nextitem)
            teardown = report if teardown is None else verdict.joined(teardown, report)
        self._log(item, teardown)

    def _unread_output(self) -> dict[str, str]:
        """What the child wrote and did not read back: all of the phase in which it died.

        With ``--capture=fd`` both processes write to one file. Of ``--capture=sys`` nothing is left, as it died with
        the child's memory; then this empties our own copy. ``CaptureManager.read_global_capture`` has no public name;
        8.0 to 9.2.
        """
        capture = self._config.pluginmanager.getplugin("capturemanager")
        if capture is None or not capture.is_globally_capturing():
            return {}
        out, err = capture.read_global_capture()
        return {"stdout": out, "stderr": err}

    def _log(self, item: pytest.Item, report: pytest.TestReport) -> None:
        neighbours.told(item, report, self._makereport_outside)
        item.ihook.pytest_runtest_logreport(report=report)
