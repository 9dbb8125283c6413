"""One test that is run in a sandbox, as pytest's process sees it: set up, run, receive, log, tear down.

1. **set up**: pytest sets up fixtures of class, module, package and session scope here
   (:mod:`pytest_isolate.plugin.higher_scoped_fixtures`), as part of the set-up phase of the first test that asks for
   them, so that they exist once and the sandbox sees them by copy-on-write.
2. **run**: the keeper forks; the child runs the item's own protocol (:mod:`pytest_isolate.plugin.run.child_protocol`)
   and sends its reports as plain data.
3. **receive**: the reports are made again of that data (:mod:`pytest_isolate.plugin.report.received`) and completed by
   how the run ended (:mod:`pytest_isolate.plugin.report.conclusion`).
4. **log**: pytest's plugins get the reports.
5. **tear down**: pytest tears down here what no later test needs, as part of this test's tear-down phase.

The item stays on pytest's set-up stack from 1 to 5, as it does in a plain run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pytest_isolate.plugin import higher_scoped_fixtures, hook_callers, phases
from pytest_isolate.plugin.config import item_specs
from pytest_isolate.plugin.integrations import subtests, xdist
from pytest_isolate.plugin.integrations.rerunfailures import Attempts
from pytest_isolate.plugin.report import conclusion, received, reports
from pytest_isolate.plugin.run import child_protocol, kept_folders, watchdog
from pytest_isolate.plugin.run.thread_logs import ThreadLogs
from pytest_isolate.session import own_handlers
from pytest_isolate.session.interrupted import Interrupted
from pytest_isolate.spec.errors import IsolateError, SetupError, UnsupportedError

if TYPE_CHECKING:
    from pytest_isolate.plugin.report.received import Received
    from pytest_isolate.plugin.run.isolation import Isolation
    from pytest_isolate.sandbox.outcome import Outcome
    from pytest_isolate.spec.spec import Spec

_NOT_RUN = (pytest.skip.Exception, pytest.xfail.Exception)


class IsolatedItem:
    """One item, from its set-up to its tear-down."""

    def __init__(
        self, isolation: Isolation, item: pytest.Item, nextitem: pytest.Item | None, spec: Spec, ahead: Spec | None
    ) -> None:
        """:param ahead: the spec of ``nextitem``, whose sandbox is built meanwhile."""
        self._isolation = isolation
        self._item = item
        self._hooks = item.ihook
        self._nextitem = nextitem
        folders = isolation.integrations.folders
        self._spec = kept_folders.with_folders(spec, folders(item))
        self._ahead = ahead
        if nextitem is not None and ahead is not None:
            self._ahead = kept_folders.with_folders(ahead, folders(nextitem))
        self._fixtures_outside, self._fixtures_inside = isolation.placement.divide(item)

    def run_phases(self) -> None:
        """All of it. :raises KeyboardInterrupt: or ``pytest.exit``'s exception, if that ended the run."""
        lack = self._isolation.session_keeper.lack(self._spec)
        setup = self.set_up(lack)
        failure = None if setup.excinfo is None else setup.excinfo.value
        if lack is not None and failure is lack:
            self._end_unrun(self._report_lack(lack))
            return
        if isinstance(failure, _NOT_RUN) and self._item not in self._item.session._setupstate.stack:
            # A skip mark, or xfail(run=False): no fixture was asked for.
            self._end_unrun(phases.make_report(self._item, setup))
            return
        attempts = Attempts(self._item)
        for attempts_before in attempts:
            end: tuple[Outcome, str] | BaseException
            try:
                end = self.run(failure, attempts_before)
            except IsolateError as error:
                end = error
            except BaseException as error:
                if own_handlers.find_raised(error) is None:
                    raise
                end = error
            if isinstance(end, BaseException):  # out of its handler, where pytest would show it a second time, as cause
                self._end_broken(setup, end)
                return
            outcome, thread_log = end
            result = self.receive(outcome, thread_log)
            died = result.interrupt is None and outcome.failure() is not None and result.failed()
            if died and attempts.ask_for_another(1 + len(result.earlier)):
                result.rename_to_rerun()
                self._log_earlier(result)
            else:
                self.log(result)
                self.tear_down(result)

    def set_up(self, lack: IsolateError | None) -> pytest.CallInfo[object]:
        """Do out here what belongs out here of the set-up phase, unless ``lack`` says that it would be in vain.

        Of the phase's hooks only pytest's own run; see :mod:`pytest_isolate.plugin.hook_callers`. Where a test before
        has set up everything, and it stays, only those run that report what went wrong in this process meanwhile.
        """
        item, fixtures = self._item, higher_scoped_fixtures
        if (
            lack is None
            and fixtures.are_set_up(item, self._fixtures_outside)
            and fixtures.all_stay(item, self._nextitem)
        ):
            hook = hook_callers.own_hook(item.config, "pytest_runtest_setup", watching=True)
            return phases.run_phase("setup", hook, item=item)
        setup = self._set_up_whole(lack)
        self._spec = kept_folders.with_folders(self._spec, self._isolation.integrations.folders(item))  # fixtures' too
        return setup

    def run(self, failure: BaseException | None, attempts_before: int) -> tuple[Outcome, str]:
        """Run the test in the sandbox; how that ended, and what threads of this process logged meanwhile.

        :param failure: what the set-up raised here, which the child is to raise.
        :raises IsolateError: the test was not run.
        :raises BaseException: what a signal handler of this process has raised meanwhile.
        """
        try:
            with self._listen_to_threads() as thread_logs:
                outcome = self._run_child(self._prepare_child(failure, attempts_before, thread_logs))
        except OSError as error:
            if own_handlers.find_raised(error) is not None:
                raise
            raise SetupError.of("run the test", error) from error
        return outcome, "" if thread_logs is None else thread_logs.text()

    def receive(self, outcome: Outcome, thread_log: str) -> Received:
        """Make reports of what the child sent and how the run ended; call the hook for that, pass warnings on."""
        item, isolation = self._item, self._isolation
        result = received.receive(item, outcome, isolation.integrations, controlled=xdist.is_worker(item.config))
        unread, threads = self._take_unread(), isolation.threads.missing

        def earlier(text: str) -> Iterable[str]:
            return isolation.earlier.hints(item, outcome, text)

        conclusion.conclude(item, result, outcome, unread=unread, threads=threads, earlier=earlier)
        if outcome.usage.files_left:
            isolation.earlier.note(item, outcome.usage.files_left)
        if hasattr(self._hooks, "pytest_isolate_outcome"):
            self._hooks.pytest_isolate_outcome(item=item, outcome=outcome)
        for warning in result.warnings:
            # Into the list that pytest's warnings plugin keeps round the protocol; the filters were applied inside.
            warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
        result.add_log(thread_log)
        return result

    def log(self, result: Received) -> None:
        """Log all reports but the last, of the tear-down, which is not complete yet."""
        self._log_earlier(result)
        teardown = result.last("teardown")
        for report in result.reports:
            if report is not teardown:
                self._log(report)

    def tear_down(self, result: Received) -> None:
        """Stop the session if the test has asked for it, tear down here what ``nextitem`` does not need, log that.

        :raises KeyboardInterrupt: or ``pytest.exit``'s exception, if that ended the run.
        """
        for name, value in result.stops:
            setattr(self._item.session, name, value)
        if isinstance(end := result.interrupt, pytest.exit.Exception) and end.returncode == pytest.ExitCode.USAGE_ERROR:
            item_specs.end_run(self._item.config, str(end.msg))
        if result.interrupt is not None:
            raise result.interrupt
        teardown = result.last("teardown")
        if teardown is None or not higher_scoped_fixtures.all_stay(self._item, self._nextitem):
            self._complete_set_up()
            outside = self._tear_down_outside()
            teardown = outside if teardown is None else conclusion.join(teardown, outside)
        self._log(teardown)

    def _set_up_whole(self, lack: IsolateError | None) -> pytest.CallInfo[object]:
        with self._replaced_set_up(lack):
            hook = hook_callers.own_hook(self._item.config, "pytest_runtest_setup")
            return phases.run_phase("setup", hook, item=self._item)

    @contextmanager
    def _replaced_set_up(self, lack: IsolateError | None) -> Iterator[None]:
        """Have pytest's set-up phase set up the higher-scoped fixtures alone.

        pytest's ``SetupState.setup`` is what puts the item and its parents on the stack, with all that pytest does
        about errors there, and it calls ``item.setup()``. No hook stands between the two, so the item gets methods of
        its own meanwhile. pytest leaves the frame of ``setup`` out of a fixture's traceback, as ``__tracebackhide__``
        says: a plain run has no such frame.
        """
        item, placement = self._item, self._isolation.placement

        def setup() -> None:
            __tracebackhide__ = True
            if lack is not None:
                raise lack
            # pytest before 8.2 binds setUpClass to an instance that it keeps here
            if getattr(type(item), "_testcase", item) is None:
                item._testcase = item.parent.obj(item.name)  # type: ignore[attr-defined, union-attr]
            placement.set_up(item)

        item.setup = setup  # type: ignore[method-assign]
        item.teardown = lambda: None  # type: ignore[method-assign]  # of the set-up that is done inside
        try:
            yield
        finally:
            del item.setup, item.teardown

    def _complete_set_up(self) -> None:
        """Make up for a set-up that was left out: there is something to tear down after all."""
        if self._item not in self._item.session._setupstate.stack:
            self._set_up_whole(None)

    def _tear_down_outside(self) -> pytest.TestReport:
        """Tear down out here what ``nextitem`` does not need; the report of a phase that did only this."""
        item, session = self._item, self._item.session
        # as pytest does (its issue 11706)
        following = None if session.shouldfail or session.shouldstop else self._nextitem
        hook = hook_callers.own_hook(item.config, "pytest_runtest_teardown")
        return self._report_shown(phases.run_phase("teardown", hook, item=item, nextitem=following))

    def _report_shown(self, call: pytest.CallInfo[object]) -> pytest.TestReport:
        """The report of a phase, of which --pdb is told; the child has told it of what failed inside."""
        report = phases.make_report(self._item, call)
        if call.excinfo is not None and report.failed:
            self._hooks.pytest_exception_interact(node=self._item, call=call, report=report)
        return report

    def _prepare_child(
        self, failure: BaseException | None, attempts_before: int, thread_logs: ThreadLogs | None
    ) -> child_protocol.ChildProtocol:
        first: list[Callable[[], object]] = [] if thread_logs is None else [thread_logs.stop]
        first += [partial(higher_scoped_fixtures.forget, fixture) for fixture in self._fixtures_inside]
        integrations, messenger = self._isolation.integrations, self._isolation.messenger
        return child_protocol.prepare(
            self._item, attempts_before, integrations, messenger, first=first, failure=failure
        )

    def _run_child(self, child: child_protocol.ChildProtocol) -> Outcome:
        self._stop_timers()
        item, isolation = self._item, self._isolation
        keep, more = kept_folders.base_of_tmp_path(item), isolation.count_remaining(item.session)
        keeper = isolation.keeper()
        try:
            return keeper.run(
                self._spec, child.run, ahead=self._ahead, keep=keep, more=more, at_end=isolation.keep_layer(item)
            )
        except Interrupted as end:  # raised again when the reports of the run have been logged
            return end.outcome

    def _take_unread(self) -> dict[str, str]:
        return self._isolation.take_unread_output()

    def _stop_timers(self) -> None:
        """Stop what would go off in our waiting: the sandbox's own time-out stands for pytest-timeout's alarm."""
        if (cancel := getattr(self._item, "cancel_timeout", None)) is not None:
            cancel()
        watchdog.cancel()

    def _listen_to_threads(self) -> AbstractContextManager[ThreadLogs | None]:
        """Listens to this process's threads, if there are any: of a server in a higher-scoped fixture, for one."""
        return ThreadLogs(self._item.config) if self._isolation.threads.may_log() else nullcontext()

    def _report_lack(self, error: IsolateError) -> pytest.TestReport:
        if self._isolation.settings.unsupported == "skip" and isinstance(error, UnsupportedError):
            return reports.make_skipped(self._item, str(error))
        return reports.make_error(self._item, self._isolation.tell_lack(error, self._item))

    def _end_broken(self, setup: pytest.CallInfo[object], error: BaseException) -> None:
        """The end of a test that was not run, or in whose stead a signal handler of this process has failed."""
        self._complete_set_up()
        if isinstance(error, IsolateError):
            self._end_unrun(self._report_lack(error))
            return
        if setup.excinfo is None:
            self._log(phases.make_report(self._item, setup))
            setup = phases.failed_call(error, own_handlers.find_raised(error))
        self._end_unrun(self._report_shown(setup))

    def _end_unrun(self, setup: pytest.TestReport) -> None:
        """The end of a test that was not run."""
        self._log(setup)
        self._log(self._tear_down_outside())

    def _log_earlier(self, result: Received) -> None:
        """Log the attempts that are followed by another, each as a whole."""
        item = self._item
        for attempt in result.earlier:
            for report in attempt:
                self._log(report)
            self._hooks.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
            self._hooks.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)

    def _log(self, report: pytest.TestReport) -> None:
        self._isolation.integrations.log(self._item, report)
        with subtests.shown_as_plainly(self._item, report):
            self._hooks.pytest_runtest_logreport(report=report)
        self._isolation.integrations.logged(self._item, report)
