"""Databases that this process has open: a fork writes to the same files, whatever its own file system is."""

from __future__ import annotations

import fcntl
import os
import stat
import sys

from pytest_isolate.linux.calls import calls

_MODULES = ("_sqlite3", "apsw", "pysqlite3", "sqlcipher3")
_HEADER = b"SQLite format 3\0"  # with which each begins that has a table (sqlite.org/fileformat2.html)


def is_one_open() -> bool:
    """Whether there is a file of SQLite that this process may write.

    It takes 0.1 ms at most, and nothing where no module for SQLite is loaded.
    """
    if not any(name in sys.modules for name in _MODULES):
        return False
    try:
        return any(_is_database(int(number)) for number in calls.listdir("/proc/self/fd"))
    except OSError:
        return False


def _is_database(descriptor: int) -> bool:
    try:
        flags = calls.fcntl(descriptor, fcntl.F_GETFL)
        if flags & os.O_ACCMODE != os.O_RDWR:
            return False
        status = calls.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return False
        if not status.st_size:  # no table yet. SQLite opens with O_NOFOLLOW, as tempfile does, mostly without a name
            return bool(flags & os.O_NOFOLLOW and status.st_nlink)
        return calls.pread(descriptor, len(_HEADER), 0) == _HEADER
    except OSError:  # the listing's own, which is closed
        return False
