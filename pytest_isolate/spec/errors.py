"""Whose fault it is, as exception types.

Three things can keep a test from a verdict, and they are never mixed up: the user asked for something impossible
(:class:`SpecError`), the host lacks what was asked for (:class:`UnsupportedError`), or the sandbox itself failed
(:class:`SetupError`). What the *test* did wrong is no exception but an
:class:`~pytest_isolate.sandbox.outcome.Outcome`.
"""

from __future__ import annotations

import errno as errno_names
import os
import sys
import traceback

#: What helps wherever the kernel gives such an answer, unless the place knows better.
REMEDIES = {
    errno_names.ENOMEM: "Memory is short, or the limit of pytest's own group is reached: free some, or raise it.",
    errno_names.EAGAIN: "No more processes may be started: raise ulimit -u, or pids.max of pytest's own control group.",
    errno_names.EMFILE: "This process has no descriptor left: close some, or raise ulimit -n.",
    errno_names.ESRCH: "A process of the sandbox was killed: does a test, or what watches it, end processes of others?",
    errno_names.ENFILE: "The host has no descriptor left: raise the sysctl fs.file-max.",
}
#: Of what is said of the image itself, not of a part.
_VERBS = frozenset({"is", "has", "holds", "cannot", "names"})


def exception_text() -> str:
    """:func:`traceback.format_exc`, or as much as can be had where a test has replaced what reads lines of source."""
    error = sys.exc_info()[1]
    try:
        return traceback.format_exc()
    except Exception:  # noqa: BLE001 - of whatever stands in for open() or os.stat()
        walk = traceback.walk_tb(None if error is None else error.__traceback__)
        places = (
            f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}' for frame, line in walk
        )
        return "\n".join([*places, repr(error)])


class IsolateError(Exception):
    """Base of all errors of this package; the constructor's arguments are kept, so that it survives pickling."""


class SpecError(IsolateError):
    """A value that a marker, the command line or the ini file may not have.

    :param place: where it stands, for example ``tests/test_a.py:7: @pytest.mark.isolate``.
    :param problem: what is wrong and what is allowed, one sentence.
    """

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(place, problem)
        self.place = place
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


class UnsupportedError(IsolateError):
    """The host lacks what a test asks for.

    :param key: the key of the contract that can't be in force (``"memory"``), or ``"isolate"`` for the sandbox as such.
    :param reason: what was tried, on what, and the errno.
    :param remedy: what the user can do about it.
    """

    def __init__(self, key: str, reason: str, remedy: str) -> None:
        super().__init__(key, reason, remedy)
        self.key = key
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.key} cannot be enforced here: {self.reason}. {self.remedy}"


class ImageError(IsolateError):
    """An image cannot be used: it is missing, damaged, hostile, or not of a kind that is known.

    :param image: its name or path.
    :param problem: what is wrong with which part of it, and what to do about it.
    """

    def __init__(self, image: str, problem: str) -> None:
        super().__init__(image, problem)
        self.image = image
        self.problem = problem

    def __str__(self) -> str:
        colon = "" if self.problem.partition(" ")[0] in _VERBS else ":"
        return f"image {self.image}{colon} {self.problem}"


class SetupError(IsolateError):
    """A sandbox could not be built, on a host that seemed to allow it.

    :param step: what was being done, in words (``"mount overlay"``).
    :param target: on what (``"/usr"``).
    :param errno: the kernel's answer; 0 if there was none.
    :param remedy: what the user can do about it.
    """

    def __init__(self, step: str, target: str, errno: int, remedy: str = "") -> None:
        super().__init__(step, target, errno, remedy)
        self.step = step
        self.target = target
        self.errno = errno
        self.remedy = remedy or REMEDIES.get(errno, "")

    @classmethod
    def of(cls, step: str, error: OSError) -> SetupError:
        """From what Python raised in this process: by the kernel's answer, or by its words where there is none."""
        target = os.fsdecode(error.filename or "")
        if error.errno is not None and error.errno in errno_names.errorcode:
            return cls(step, target, error.errno)
        return cls(step, target, 0, str(error))

    @property
    def reason(self) -> str:
        """What failed on what and why, without the remedy: ``cannot mount proc on /proc: EPERM (...)``."""
        where = f" on {self.target}" if self.target else ""
        name = errno_names.errorcode.get(self.errno, str(self.errno))
        why = f": {name} ({os.strerror(self.errno)})" if self.errno else ""
        return f"cannot {self.step}{where}{why}"

    def __str__(self) -> str:
        return f"sandbox: {self.reason}." + (f" {self.remedy}" if self.remedy else "")
