"""What is replaced in the child so that handles of the session's processes answer the truth.

Private parts, looked at in 3.10 to 3.14: ``Popen._internal_poll`` and ``_wait``, ``multiprocessing.popen_fork``,
``BaseProcess._parent_pid``, ``BaseSubprocessTransport``, and in psutil 5.9 to 7.2 ``Process._send_signal``. What is not
there is left as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import wraps
from subprocess import TimeoutExpired
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_isolate.plugin.integrations.session_processes import Session

_Method = Callable[..., Any]


def mend(session: Session, modules: Mapping[str, ModuleType]) -> None:
    """Replace what is loaded."""
    _mend_numbers(session)
    for name, mend_module in (
        ("subprocess", _mend_subprocess),
        ("multiprocessing.popen_fork", _mend_popen_fork),
        ("multiprocessing.process", _mend_process),
        ("multiprocess.popen_fork", _mend_popen_fork),
        ("multiprocess.process", _mend_process),
        ("asyncio.base_subprocess", _mend_asyncio),
        ("psutil", _mend_psutil),
    ):
        if name in modules:
            mend_module(session, modules[name])


def _replace(owner: Any, name: str, concerns: Callable[[Any], bool], answer: _Method) -> None:
    """Have ``answer`` called for the objects that it ``concerns``, and what was there for others."""
    original: _Method | None = getattr(owner, name, None)
    if original is None:
        return

    @wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return (answer if concerns(self) else original)(self, *args, **kwargs)

    setattr(owner, name, method)


def _mend_subprocess(session: Session, module: Any) -> None:
    def concerns(popen: Any) -> bool:
        return popen.returncode is None and session.owns(popen)

    def poll(popen: Any, *_: Any, **__: Any) -> int | None:
        if session.has_ended(popen.pid):
            popen.returncode = session.status(popen.pid)
        return popen.returncode  # type: ignore[no-any-return]

    def wait(popen: Any, timeout: float | None) -> int | None:
        __tracebackhide__ = True
        if not session.has_ended(popen.pid, timeout):
            raise TimeoutExpired(popen.args, timeout or 0)
        return poll(popen)

    def send_signal(popen: Any, _: int) -> None:
        __tracebackhide__ = True
        if poll(popen) is None:
            raise session.refuse(popen.pid, _command(popen.args))

    _replace(module.Popen, "_internal_poll", concerns, poll)
    _replace(module.Popen, "_wait", concerns, wait)
    _replace(module.Popen, "send_signal", concerns, send_signal)


def _command(args: object) -> str:
    words = args if isinstance(args, (list, tuple)) else [args]
    return " ".join(os.fsdecode(word) if isinstance(word, (bytes, os.PathLike)) else str(word) for word in words)


def _mend_popen_fork(session: Session, module: Any) -> None:
    def concerns(popen: Any) -> bool:
        return popen.returncode is None and session.owns(popen)

    def is_older(popen: Any) -> bool:  # those of a fork server are no children of pytest's
        return popen.returncode is None and session.is_older(popen)

    def poll(popen: Any, flag: int = os.WNOHANG) -> int | None:
        if session.has_ended(popen.pid, 0 if flag == os.WNOHANG else None):
            popen.returncode = session.status(popen.pid)
        return popen.returncode  # type: ignore[no-any-return]

    def send_signal(popen: Any, _: int) -> None:
        __tracebackhide__ = True
        if popen.poll() is None:
            raise session.refuse(popen.pid)

    _replace(module.Popen, "poll", concerns, poll)
    _replace(module.Popen, "_send_signal", is_older, send_signal)


def _mend_process(session: Session, module: Any) -> None:
    def concerns(process: Any) -> bool:
        return process._parent_pid == session.outside != os.getpid() and process._popen is not None

    def is_alive(process: Any) -> bool:
        return process.exitcode is None

    def join(process: Any, timeout: float | None = None) -> None:
        process._check_closed()
        process._popen.wait(timeout)

    _replace(module.BaseProcess, "is_alive", concerns, is_alive)
    _replace(module.BaseProcess, "join", concerns, join)


def _mend_asyncio(session: Session, module: Any) -> None:
    def concerns(transport: Any) -> bool:
        popen = transport._proc
        return transport._returncode is None and popen is not None and session.owns(popen)

    def check(transport: Any) -> None:
        __tracebackhide__ = True
        if transport._proc.poll() is not None:
            raise ProcessLookupError
        raise session.refuse(transport._proc.pid, _command(transport._proc.args))

    def get_returncode(transport: Any) -> int | None:
        return transport._proc.poll()  # type: ignore[no-any-return]

    async def wait(transport: Any) -> int:
        from asyncio import sleep  # noqa: PLC0415 - loaded, as this is called

        while (status := transport._proc.poll()) is None:  # noqa: ASYNC110 - no loop watches its pidfd
            await sleep(0.01)
        return int(status)

    _replace(module.BaseSubprocessTransport, "_check_proc", concerns, check)
    _replace(module.BaseSubprocessTransport, "get_returncode", concerns, get_returncode)
    _replace(module.BaseSubprocessTransport, "_wait", concerns, wait)


def _mend_psutil(session: Session, module: Any) -> None:
    def is_running(process: Any) -> bool:
        return not session.has_ended(process.pid)

    def send_signal(process: Any, _: int) -> None:
        __tracebackhide__ = True
        if session.has_ended(process.pid):
            raise module.NoSuchProcess(process.pid)
        raise session.refuse(process.pid)

    _replace(module.Process, "is_running", session.owns, is_running)
    _replace(module.Process, "_send_signal", session.owns, send_signal)


def _mend_numbers(session: Session) -> None:
    """For those who have a number and no handle, as ptyprocess: it is a process inside, if there is one."""
    waitpid, kill = os.waitpid, os.kill

    @wraps(waitpid)
    def waitpid_truly(pid: int, options: int, /) -> tuple[int, int]:
        __tracebackhide__ = True
        try:
            return waitpid(pid, options)
        except ChildProcessError:
            if pid not in session.pidfds:
                raise
            if not session.has_ended(pid, 0 if options & os.WNOHANG else None):
                return 0, 0
            status = session.status(pid)
            return pid, status << 8 if status >= 0 else -status

    @wraps(kill)
    def kill_truly(pid: int, number: int, /) -> None:
        __tracebackhide__ = True
        try:
            kill(pid, number)
        except ProcessLookupError:
            if pid not in session.pidfds or session.has_ended(pid):
                raise
            if number:
                raise session.refuse(pid) from None

    os.waitpid, os.kill = waitpid_truly, kill_truly
