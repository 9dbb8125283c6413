"""Goes back into a failed test's sandbox: a new one like it, with what the test wrote, and a program in it."""

from __future__ import annotations

import _socket
import os
import struct
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from pytest_isolate.linux.calls import calls
from pytest_isolate.linux.control import Control
from pytest_isolate.linux.native import Fd
from pytest_isolate.sandbox.channel import Line
from pytest_isolate.session import launched, outcome_builder
from pytest_isolate.session.held import Held
from pytest_isolate.session.keeper import Keeper
from pytest_isolate.session.kept import layer_copy, put_back
from pytest_isolate.session.kept.attendance import PipeAttendance, TerminalAttendance
from pytest_isolate.session.kept.keep import describe
from pytest_isolate.session.kept.show import escaped
from pytest_isolate.session.kept.store import Entry, KeptStore, NotKeptError
from pytest_isolate.session.kept.surroundings import environment
from pytest_isolate.spec.errors import IsolateError, SetupError
from pytest_isolate.spec.spec import Spec

_SHELLS = ("/bin/bash", "/bin/sh")
_PAIR = struct.Struct("2i")
_NO_VIEW = "A kept layer is only put into a view of its own, never into the host's files; what is lacking is in doctor."


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What is wanted of one."""

    entry: Entry
    store: KeptStore
    words: Sequence[str] | None  #: the program; None: a shell
    write: bool  #: keep in the layer what it changes

    def make(self) -> int:
        """Make it; the exit status of the program, 128 and the signal's number if that ended it.

        :raises IsolateError: there is no such sandbox here, or it broke. :raises OSError: the program can't be started.
        """
        around = self.entry.layer.surroundings
        _go_to(around.cwd)
        with (
            Keeper(
                cgroup=around.cgroup,
                degrade=around.degrade,
                places=around.places,
                images=around.images,
                immortal=False,
            ) as keeper,
            ExitStack() as closing,
        ):
            spec = replace(around.spec, limits=replace(around.spec.limits, timeout=None), leaks="off")
            keeper.check(spec)
            held = keeper.sandboxes.hold(spec)
            closing.callback(keeper.sandboxes.release, held)
            if held.sandbox.scratch is None:
                raise SetupError("make a file system of its own", "", 0, _NO_VIEW)
            status = self._perform(keeper, held, closing)
            if self.write:
                self._keep(held, held.sandbox.scratch)
            return status

    def _perform(self, keeper: Keeper, held: Held, closing: ExitStack) -> int:
        at_terminal = os.isatty(0) and os.isatty(1)
        found, pair = _prepare(keeper, held, self.entry, closing, terminal=at_terminal)
        if self.words is None and at_terminal:
            _greet(self.entry, held.spec, write=self.write)
        for line in (*found["lost"], *(f"{key} is not in force: {why}" for key, why in held.as_run.keys)):
            sys.stderr.write(f"{escaped(line)}\n")
        sys.stderr.flush()
        around = self.entry.layer.surroundings
        start = partial(
            launched.start,
            keeper,
            held,
            self.words or [_shell(found, self.entry)],
            cwd=around.cwd,
            name=self.entry.id,
            env=launched.environment(held, environment(around.env)),
            start_new_session=True,  # what our terminal sends comes once: from this process
        )
        if pair is None:
            with PipeAttendance(held) as attending:
                return attending.attend(start(more=["group"]))
        master, slave = pair
        error = slave if os.isatty(2) else None
        with TerminalAttendance(held, master, slave, stops=self.words is not None) as attending:
            return attending.attend(start(more=["terminal"], stdin=slave, stdout=slave, stderr=error))

    def _keep(self, held: Held, scratch: Fd) -> None:
        changes = outcome_builder.look_for_changes(held) or ()
        old = self.entry.layer
        layer = describe(held, scratch, changes, test=old.test, result=old.result, around=old.surroundings)
        try:
            self.store.replace(self.entry, layer, partial(layer_copy.copy, scratch, held.plan.layers, changes))
        except (NotKeptError, OSError) as error:
            raise SetupError("write what was changed into the kept layer", self.entry.id, 0, str(error)) from None


def _go_to(cwd: str) -> None:
    """The planner takes this process's current folder for the test's."""
    try:
        os.chdir(cwd)
    except OSError as error:
        remedy = "The test ran in it; make it again, or look at the layer by `kept files` and `kept copy`."
        raise SetupError("enter the folder", cwd, error.errno or 0, remedy) from None


def _prepare(
    keeper: Keeper, held: Held, entry: Entry, closing: ExitStack, *, terminal: bool
) -> tuple[dict[str, list[str]], tuple[Fd, Fd] | None]:
    """Put the layer's files into the sandbox, by a fork that enters it like a test.

    :return: what that found out; both ends of a terminal of the sandbox's own, which programs find in their /dev/pts.
    """
    top = calls.open(entry.path / "files", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    closing.callback(calls.close, top)
    control = Control()
    closing.callback(control.close)
    outcome = keeper.run_in(held, partial(_put_back_inside, top, entry.layer.changes, control if terminal else None))
    if (failure := outcome.failure()) is not None:
        raise IsolateError(f"cannot put the layer back: {failure}\n{outcome.error or outcome.stacks}".rstrip())
    found = outcome.value
    assert isinstance(found, dict)
    if not terminal:
        return found, None
    _, ends, _ = control.receive(16, 2, seconds=1)
    for end in ends:
        closing.callback(calls.close, end)
    master, slave = ends
    return found, (master, slave)


def _put_back_inside(top: int, changes: Sequence[tuple[str, str]], control: Control | None, line: Line) -> None:
    lost = put_back.put_back(top, changes)
    if control is not None:
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _PAIR.pack(*os.openpty()))]
        control.theirs.sendmsg([b"terminal"], rights)
    shells = [os.environ.get("SHELL", ""), *_SHELLS]
    line(
        {
            "lost": [f"not there: {each}" for each in lost],
            "shells": [each for each in shells if os.access(each, os.X_OK)],
        }
    )


def _shell(found: dict[str, list[str]], entry: Entry) -> str:
    if found["shells"]:
        return found["shells"][0]
    raise SetupError("find a shell", "", 0, f"Tried {', '.join(_SHELLS)}. Write: kept run {entry.id} -- PROGRAM")


def _greet(entry: Entry, spec: Spec, *, write: bool) -> None:
    fate = "is kept in the layer" if write else "is thrown away at its end (--write keeps it)"
    sys.stderr.write(f"A new sandbox, with what {entry.layer.test!a} wrote. What you change {fate}.\n")
    if spec.writable:
        paths = ", ".join(map(ascii, spec.writable))
        sys.stderr.write(f"But for {paths}: the host's own files, as the test's writable= says.\n")
