"""``--isolate-session``: pytest goes on in a sandbox of its own, and a process outside waits for it.

All this comes before the first conftest.py file is loaded. What cannot be had is a usage error there.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import pytest

from pytest_isolate.plugin import fixtures
from pytest_isolate.plugin.config import session_options
from pytest_isolate.plugin.integrations import debugger
from pytest_isolate.plugin.run import kept_paths, session_editor
from pytest_isolate.session.session_sandbox import SessionSandbox
from pytest_isolate.spec.errors import IsolateError
from pytest_isolate.spec.keys import IN_SESSION

if TYPE_CHECKING:
    from types import FrameType

    from pytest_isolate.spec.spec import Spec

_MOST_SHOWN = 50


def enter(config: pytest.Config) -> None:
    """Come back in a sandbox; the process outside does not come back.

    :raises pytest.UsageError: it cannot be had.
    """
    given = config.known_args_namespace
    spec = session_options.read_spec(config, given)
    if problem := _find_problem(given):
        otherwise = "" if given.isolate_session else " `-o isolate_session=false` does without the sandbox."
        raise pytest.UsageError(f"--isolate-session: {problem}{otherwise}")
    debugger_address = debugger.expect() if debugger.is_attached() else None
    spec = session_editor.reached(spec, debugger_address)
    places = (str(config.rootpath), str(config.invocation_params.dir), *kept_paths.named(config, given))
    kept_paths.refuse_lost(places, spec.writable)
    spec = kept_paths.reached(spec, places)
    try:
        sandbox = SessionSandbox(spec, cgroup=given.isolate_cgroup, places=places)
    except IsolateError as error:
        raise pytest.UsageError(f"--isolate-session: {error}") from error
    kept, outside = os.memfd_create("isolate-kept"), os.getpid()
    try:
        _flush()
        if not sandbox.enter():
            _wait(sandbox, kept, getattr(given, "verbose", 0))  # none with -p no:terminal
    except IsolateError as error:
        sandbox.close()
        raise pytest.UsageError(f"--isolate-session: {error}") from error
    # A descriptor, as the terminal may not be opened inside: without root devices are closed on some mounts (nodev).
    os.environ[IN_SESSION] = str(os.dup(0)) if os.isatty(0) else ""
    if debugger.is_attached():
        debugger.connect(outside, debugger_address, spec)
    fixtures.forget_first_threads()
    config.stash[session_options.ENTERED] = session_options.Entered(_describe(sandbox, spec), kept, spec.writable)


def _find_problem(given: object) -> str | None:
    """Why pytest cannot go on in a sandbox, if it cannot."""
    # there is no other way to see who called pytest.main()
    if not (session_editor.has_started() or _runs_as_program(sys._getframe())):
        return (
            "pytest.main() runs in another program, which cannot go on in a sandbox. Start pytest as a program: "
            "`pytest` or `python -m pytest`."
        )
    if getattr(given, "looponfail", False):
        return "--looponfail waits for files to change, and does not see that from inside. Leave one of the two out."
    if others := [spec for spec in getattr(given, "tx", None) or () if "popen" not in spec]:
        return f"workers of --tx={others[0]} would be outside of the sandbox. Leave one of the two out."
    threads = [each for each in threading.enumerate() if each is not threading.main_thread()]
    if others := [each.name for each in threads if not debugger.owns(each)]:
        return f"a plugin has started threads, which would stay outside: {', '.join(others)}. Leave one of the two out."
    return None


def _runs_as_program(frame: FrameType | None) -> bool:
    """Whether pytest was started as a program, by its script or with ``python -m``.

    Private: ``console_main`` of _pytest.config, ``_console_main`` from 9.1 on; 8.0 to 9.2.
    """
    while frame is not None:
        if frame.f_code.co_name in ("console_main", "_console_main"):
            return True
        frame = frame.f_back
    return False


def _describe(sandbox: SessionSandbox, spec: Spec) -> str:
    return f"session in a sandbox ({sandbox.host.describe()}, network {spec.network})"


def _flush() -> None:
    """Else the fork's copy of the buffers would come out twice."""
    sys.stdout.flush()
    sys.stderr.flush()


def _wait(sandbox: SessionSandbox, kept: int, verbosity: int) -> NoReturn:
    """In the process outside: wait, take out what is to stay, tell the rest, and end as the one inside has."""
    try:
        status = sandbox.wait()
        # what was killed has mostly left a line of dots behind
        lines = ["", f"isolate: {end}"] if (end := _describe_end(sandbox, status)) else []
        thrown, lost = sandbox.keep(os.pread(kept, os.fstat(kept).st_size, 0))
        lines += [f"isolate: could not keep {each}" for each in lost]
        if thrown and verbosity >= 0:
            lines += _describe_thrown(thrown, all_of_them=verbosity > 0)
        with suppress(OSError):  # a terminal that has hung up; its end is told all the same
            for line in lines:
                print(line, flush=True)  # noqa: T201 - pytest's terminal reporter has ended, inside
    finally:
        sandbox.close()
    _end_as(status)


def _describe_end(sandbox: SessionSandbox, status: int) -> str | None:
    if status >= 0:
        return None
    why = ", as a limit of its memory was reached" if sandbox.was_out_of_memory() else ""
    return f"pytest was killed by {signal.Signals(-status).name} in its sandbox{why}"


def _describe_thrown(thrown: list[str], *, all_of_them: bool) -> Iterator[str]:
    count = "1 file or folder" if len(thrown) == 1 else f"{len(thrown)} files and folders"
    hint = "" if all_of_them else " (-v lists them)"
    yield f"isolate: the run changed {count} besides, which went with its sandbox{hint}"
    if all_of_them:
        yield from (f"  {each}" for each in thrown[:_MOST_SHOWN])
        if len(thrown) > _MOST_SHOWN:
            yield f"  and {len(thrown) - _MOST_SHOWN} more"


def _end_as(status: int) -> NoReturn:
    """End with the same exit code, or by the same signal; what runs at an interpreter's end has run inside."""
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the core, if any, was the other's
        with suppress(OSError):  # SIGKILL has no other way
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-status})
    os._exit(status if status >= 0 else 128 - status)
