"""What came of a run: how it ended, its figures, the files that it changed, and those that are to be kept."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_isolate.sandbox import changed_files, copy_out
from pytest_isolate.sandbox.outcome import Change, Outcome, Usage
from pytest_isolate.session import leaks
from pytest_isolate.spec.errors import SetupError

if TYPE_CHECKING:
    from pytest_isolate.cgroups.interface import Figures
    from pytest_isolate.sandbox.watcher import Ended
    from pytest_isolate.session.held import Held

_KILLED = "Its PID 1, process {} outside, or the builder was killed while the test ran. What ends processes by name?"


def conclude(held: Held, ended: Ended, trouble: SetupError | None, keep: str | None, *, take: bool = True) -> Outcome:
    """What came of a run that has ended.

    :param trouble: why the child never got to run Python.
    :param keep: see :meth:`pytest_isolate.session.keeper.Keeper.run`.
    :param take: whether what is to be kept is copied out now.
    :raises SetupError: the run was none, or its sandbox broke while it ran.
    :raises KeyboardInterrupt: the same, and Ctrl-C came meanwhile.
    """
    if trouble := trouble or ended.refused:
        raise ended.interrupt or trouble
    figures = held.figures()
    if ended.init_died and not figures.oom_kills:
        raise SetupError("keep the sandbox alive", "", 0, _KILLED.format(held.sandbox.init_pid))
    return outcome(held, ended, figures, keep, take=take)


def outcome(held: Held, ended: Ended, figures: Figures, keep: str | None, *, take: bool = True) -> Outcome:
    """What came of a run.

    :param figures: of its control groups.
    :param keep: see :meth:`pytest_isolate.session.keeper.Keeper.run`.
    """
    cpu = figures.cpu_seconds
    if cpu is None:  # without a cgroup: the test and the children that it waited for
        cpu = ended.rusage.ru_utime + ended.rusage.ru_stime
    changes = look_for_changes(held)
    return Outcome(
        spec=held.spec,
        usage=Usage(
            wall_seconds=ended.wall_seconds,
            cpu_seconds=cpu,
            memory_peak_bytes=figures.memory_peak_bytes,
            pids_peak=figures.pids_peak,
            read_bytes=figures.read_bytes,
            write_bytes=figures.write_bytes,
            changes=changes,
            files_left=leaks.files_left(changes, keep) if changes else changes,
        ),
        exit_status=os.WEXITSTATUS(ended.status) if os.WIFEXITED(ended.status) else None,
        signal=os.WTERMSIG(ended.status) if os.WIFSIGNALED(ended.status) else None,
        complete=ended.complete,
        timed_out=ended.timed_out,
        stalled=ended.stalled,
        interrupted=ended.interrupt is not None,
        oom_kills=figures.oom_kills,
        pids_denied=figures.pids_denied,
        messages=ended.messages,
        error=ended.error,
        stacks=ended.stacks,
        processes=ended.processes,
        leaks=ended.left,
        lost=take_kept(held, keep) if take else (),
        degraded=held.as_run.keys,
    )


def take_kept(held: Held, keep: str | None) -> tuple[str, ...]:
    """Copy out what is to be kept; what could not be."""
    if keep is None or held.sandbox.scratch is None:
        return ()
    return tuple(copy_out.take_new(held.sandbox.scratch, held.plan.layers, keep))


def look_for_changes(held: Held) -> tuple[Change, ...] | None:
    """Files that were changed in a sandbox so far; None: it has no writable layer."""
    scratch = held.sandbox.scratch
    if scratch is None:
        return None
    found = changed_files.changes(scratch, held.plan.host_layers)
    for layer in held.plan.layers:
        if layer.lowers:
            from pytest_isolate.images.root.changes import changes  # noqa: PLC0415 - only if a test has an image

            found += changes(scratch, layer)
    return tuple(found)
