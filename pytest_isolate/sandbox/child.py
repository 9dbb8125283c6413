"""The first and last things that the forked child does: runs the payload inside the sandbox and never returns."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.native import Fd
from pytest_isolate.sandbox.channel import Frame, Line
from pytest_isolate.spec.errors import SetupError, exception_text
from pytest_isolate.spec.spec import Spec

#: Asks the child for the stacks of all its threads. A real-time signal that nobody is known to use.
DUMP_SIGNAL = signal.SIGRTMAX - 3


def prepare(stacks: Fd) -> None:
    """Before the first fork: have faulthandler allocate its table of signals, or each child does, on 15 pages."""
    faulthandler.register(DUMP_SIGNAL, stacks, chain=False)
    faulthandler.unregister(DUMP_SIGNAL)


@contextmanager
def collector_off() -> Iterator[None]:
    """For a fork, until :func:`freeze`: Python's own fork hooks allocate, and a collection may be due just then.

    One test in some thousands paid for a copy of the whole heap, and was slower by the time that takes.
    """
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def freeze() -> None:
    """In a child: exempt every object of the parent from garbage collection.

    That would write to, and so copy (and charge to this test's memory) every page of the parent's heap. It splices
    lists: some pages, whatever the heap's size.
    """
    gc.freeze()


def run(line: Line, body: Callable[[Line], None], stacks: Fd, complete: Callable[[], None] | None) -> NoReturn:
    """Run ``body(line)`` and end this process.

    :param complete: what is left to do to the sandbox from inside; may raise SetupError.
    :param stacks: file for faulthandler's dumps, of a crash or on :data:`DUMP_SIGNAL`.
    """
    status = 1
    try:
        faulthandler.enable(stacks)
        faulthandler.register(DUMP_SIGNAL, stacks, all_threads=True, chain=False)
        if line.spec.env:
            _set_environment(line.spec)
        if complete is not None:
            complete()
        body(line)
        flush()
        line.send(Frame.END, None)
        status = 0
    except SetupError as error:
        line.send(Frame.REFUSED, [error.step, error.target, error.errno, error.remedy])
    except BaseException:  # noqa: BLE001 - whatever it is, it must be told outside, and must not unwind into pytest's frames
        flush()
        with suppress(OSError):
            line.send(Frame.ERROR, exception_text())
    finally:
        calls.exit(status)  # no atexit, no finalizers: they belong to the parent


def _set_environment(spec: Spec) -> None:
    for name, value in spec.env:
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def flush() -> None:
    """What Python still buffers would be lost by ``_exit`` in the child, and come out twice if it was there before."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, replaced or broken by a fixture or the test: its own affair
            stream.flush()
