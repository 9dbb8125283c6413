"""Functions of the interpreter, bound where no test and no tool replaces them.

What this package does once tests run (in pytest's process, in the child) calls them by ``calls.read(...)``. Tests and
higher-scoped fixtures patch attributes of ``os``, ``socket``, ``select``, ``json`` and ``time``, gevent and eventlet
those of whole modules; pyfakefs and freezegun replace such functions in the globals of all loaded modules, ours
included. None of them looks into the object that this module holds. pytest's plugin imports it before the first
conftest.py file, which may patch as well; all that is imported here pytest has loaded by then.

Not here: what works by other attributes of these modules, as ``os.makedirs``, ``socket.create_connection``,
``subprocess`` and the methods of :class:`pathlib.Path` do.
"""

from __future__ import annotations

import _socket
import _thread
import fcntl
import json
import os
import posix
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any


class _Calls:
    """One attribute per function; the names are those of :mod:`os`, :mod:`time`, :mod:`signal`, and so on."""

    __slots__ = ()

    # Files and directories. Those of posix, as tools patch the module os.
    access = staticmethod(posix.access)
    chmod = staticmethod(posix.chmod)
    close = staticmethod(posix.close)
    dup2 = staticmethod(posix.dup2)
    fchmod = staticmethod(posix.fchmod)
    flock = staticmethod(fcntl.flock)
    fcntl = staticmethod(fcntl.fcntl)  # from here on this is what the name stands for in the class
    fstat = staticmethod(posix.fstat)
    ftruncate = staticmethod(posix.ftruncate)
    getcwd = staticmethod(posix.getcwd)
    getxattr = staticmethod(posix.getxattr)
    listdir: Callable[[Any], list[str]] = posix.listdir  # of several signatures
    lseek = staticmethod(posix.lseek)
    lstat = staticmethod(posix.lstat)
    memfd_create = staticmethod(posix.memfd_create)
    mkdir = staticmethod(posix.mkdir)
    open = staticmethod(posix.open)
    pipe2 = staticmethod(posix.pipe2)
    pread = staticmethod(posix.pread)
    read = staticmethod(posix.read)
    readlink = staticmethod(posix.readlink)
    removexattr = staticmethod(posix.removexattr)
    rmdir = staticmethod(posix.rmdir)
    scandir: Callable[[str], AbstractContextManager[Iterator[os.DirEntry[str]]]] = posix.scandir
    sendfile = staticmethod(posix.sendfile)
    set_blocking = staticmethod(posix.set_blocking)
    setxattr = staticmethod(posix.setxattr)
    stat = staticmethod(posix.stat)
    statvfs = staticmethod(posix.statvfs)
    symlink = staticmethod(posix.symlink)
    truncate = staticmethod(posix.truncate)
    unlink = staticmethod(posix.unlink)
    write = staticmethod(posix.write)

    # Processes and threads
    exit = staticmethod(posix._exit)  # noqa: SLF001 - the name of the system call's function
    geteuid = staticmethod(posix.geteuid)
    frames = staticmethod(sys._current_frames)  # noqa: SLF001 - of each thread that runs Python; public nowhere
    getpid = staticmethod(posix.getpid)
    getuid = staticmethod(posix.getuid)
    kill = staticmethod(posix.kill)
    killpg = staticmethod(posix.killpg)
    pidfd_send_signal = staticmethod(signal.pidfd_send_signal)
    posix_spawn = staticmethod(posix.posix_spawn)
    threads = staticmethod(threading.enumerate)
    thread_count = staticmethod(_thread._count)  # noqa: SLF001 - threads that Python has started; public nowhere
    wait4 = staticmethod(posix.wait4)
    waitid = staticmethod(posix.waitid)
    waitpid = staticmethod(posix.waitpid)

    # Waiting
    monotonic = staticmethod(time.monotonic)
    poll = staticmethod(select.poll)
    sleep = staticmethod(time.sleep)

    # Sockets: the C class, whose attributes nobody can set. It is closed when it is freed, as those of socket are.
    socket = _socket.socket
    socketpair = staticmethod(_socket.socketpair)
    getaddrinfo = staticmethod(_socket.getaddrinfo)
    gethostname = staticmethod(_socket.gethostname)

    # Text
    decode = staticmethod(json.JSONDecoder().decode)
    encode = staticmethod(json.JSONEncoder(separators=(",", ":")).encode)
    fsdecode = staticmethod(os.fsdecode)
    fsencode = staticmethod(os.fsencode)
    strerror = staticmethod(posix.strerror)


#: The one object; its attributes are read-only.
calls = _Calls()
