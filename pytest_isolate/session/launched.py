"""Programs in sandboxes that are held, each as a :class:`subprocess.Popen` of this process (``_native/launch.c``)."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from pytest_isolate.linux import waiting
from pytest_isolate.linux.calls import calls
from pytest_isolate.sandbox import forker
from pytest_isolate.session.held import Held
from pytest_isolate.session.keeper import Keeper
from pytest_isolate.spec.errors import SetupError

_START_SECONDS = 60.0  # for a program to be started, which takes milliseconds


class Program(subprocess.Popen[Any]):
    """A program in a sandbox. The process that stands for it outside would die of SIGKILL instead of handing it on."""

    def send_signal(self, sig: int) -> None:
        super().send_signal(forker.HANDED_ON.get(sig, sig))


def start(
    keeper: Keeper, held: Held, words: Sequence[str], *, cwd: str, name: str, more: Sequence[str] = (), **options: Any
) -> Program:
    """Start a program in ``held``.

    :param cwd: a folder of the sandbox. :param name: what messages call the sandbox.
    :param more: words for ``launch.c``. :param options: of :class:`subprocess.Popen`, that act on no other process.
    :raises OSError: the program could not be started. :raises SetupError: the sandbox can't be entered.
    """
    entry = keeper.entry(held, cwd)
    reader, writer = calls.pipe2(os.O_CLOEXEC)
    try:
        launch = forker.launch_command(held.plan, entry, writer, more)
        kept = (*options.pop("pass_fds", ()), writer, entry.init_pidfd, *entry.attach)
        process = Program([*launch, *words], pass_fds=kept, **options)
    except BaseException:
        calls.close(reader)
        raise
    finally:
        calls.close(writer)
    with open(reader, "rb", 0) as file:
        if not waiting.readable(reader, seconds=_START_SECONDS):
            calls.kill(process.pid, signal.SIGKILL)  # not by Popen, which would ask it to kill the program
            with process:
                raise SetupError("start a program in the sandbox", name, errno.ETIMEDOUT, "Is it overloaded?")
        trouble = forker.launch_trouble(file.read(), words[0], cwd)
    if trouble is not None:
        with process:  # ends by itself
            pass
        raise trouble
    return process


def environment(held: Held, base: dict[str, str]) -> dict[str, str]:
    """``base`` with what the sandbox's image and Spec say."""
    named = {**base, **dict(held.plan.env), **{name: value for name, value in held.spec.env if value is not None}}
    removed = {name for name, value in held.spec.env if value is None}
    return {name: value for name, value in named.items() if name not in removed}
