"""Whose fault it is, as exception types.

Three things can keep a test from a verdict, and they are never mixed up: the user asked for something impossible
(:class:`SpecError`), the host lacks what was asked for (:class:`UnsupportedError`), or the sandbox itself failed
(:class:`SetupError`). What the *test* did wrong is no exception but an :class:`~pytest_isolate.outcome.Outcome`.
"""

from __future__ import annotations

import errno as errno_names
import os

#: What helps wherever the kernel gives such an answer, unless the place knows better.
_REMEDIES = {
    errno_names.EMFILE: "This process has no descriptor left: close some, or raise ulimit -n.",
    errno_names.ENFILE: "The host has no descriptor left: raise the sysctl fs.file-max.",
}


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
        return f"image {self.image}: {self.problem}"


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
        self.remedy = remedy or _REMEDIES.get(errno, "")

    @classmethod
    def of(cls, step: str, error: OSError) -> SetupError:
        """From what Python raised in this process."""
        return cls(step, os.fsdecode(error.filename or ""), error.errno or 0)

    def __str__(self) -> str:
        where = f" on {self.target}" if self.target else ""
        name = errno_names.errorcode.get(self.errno, str(self.errno))
        why = f": {name} ({os.strerror(self.errno)})" if self.errno else ""
        return f"sandbox: cannot {self.step}{where}{why}." + (f" {self.remedy}" if self.remedy else "")
