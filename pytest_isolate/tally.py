"""What came of a run: how it ended, its figures, the files that it changed, and those that are to be kept."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_isolate import native, salvage
from pytest_isolate.outcome import Change, Outcome, Usage

if TYPE_CHECKING:
    from pytest_isolate.builder import Sandbox
    from pytest_isolate.cgroups.interface import Reading
    from pytest_isolate.plan import Plan
    from pytest_isolate.sandboxes import Held
    from pytest_isolate.watch import Run


def outcome(held: Held, run: Run, figures: Reading, keep: str | None) -> Outcome:
    """The end of ``run``, which has ended.

    :param figures: of its control groups.
    :param keep: see :meth:`pytest_isolate.session.Keeper.run`.
    """
    sandbox = held.sandbox
    cpu = figures.cpu_seconds
    if cpu is None and run.rusage is not None:  # without a cgroup: the test and the children that it waited for
        cpu = run.rusage.ru_utime + run.rusage.ru_stime
    assert run.status is not None
    return Outcome(
        spec=held.spec,
        usage=Usage(
            wall_seconds=run.wall_seconds,
            cpu_seconds=cpu,
            memory_peak_bytes=figures.memory_peak_bytes,
            pids_peak=figures.pids_peak,
            read_bytes=figures.read_bytes,
            write_bytes=figures.write_bytes,
            changes=_changes(held.plan, sandbox),
        ),
        exit_status=os.WEXITSTATUS(run.status) if os.WIFEXITED(run.status) else None,
        signal=os.WTERMSIG(run.status) if os.WIFSIGNALED(run.status) else None,
        complete=run.complete and run.status == 0,
        timed_out=run.timed_out,
        interrupted=run.interrupt is not None,
        oom_kills=figures.oom_kills,
        pids_denied=figures.pids_denied,
        messages=tuple(run.messages),
        error=run.error,
        stacks=run.read_stacks(),
        processes=run.processes,
        lost=_kept(held.plan, sandbox, keep),
        degraded=held.as_run.keys,
    )


def _kept(plan: Plan, sandbox: Sandbox, keep: str | None) -> tuple[str, ...]:
    """Copy out what is to be kept; what could not be."""
    if keep is None or sandbox.scratch is None:
        return ()
    return tuple(salvage.take_new(sandbox.scratch, plan.layers, keep))


def _changes(plan: Plan, sandbox: Sandbox) -> tuple[Change, ...] | None:
    if sandbox.scratch is None:
        return None
    found = native.changes(sandbox.scratch, plan.host_layers)
    for layer in plan.layers:
        if layer.lowers:
            from pytest_isolate.images.changed import changes  # noqa: PLC0415 - only if a test has an image

            found += changes(sandbox.scratch, layer)
    return tuple(found)
