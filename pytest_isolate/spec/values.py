"""What a single value of the contract may look like: from what a user wrote to a plain, checked value.

Every reader takes what stood in a marker (any object) or on the command line and in the ini file (text) and raises
``ValueError`` with the rest of a sentence: what is wrong, what is allowed, and the nearest right spelling.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable

from pytest_isolate.spec.messages import nearest

#: Longest host name that sethostname(2) takes, HOST_NAME_MAX of limits.h.
HOST_NAME_MAX = 64
#: Smallest CPU quota: the kernel takes none under 1 ms (Documentation/scheduler/sched-bwc.rst), a period is 100 ms.
CPUS_MIN = 0.01
#: The builder has room for 64 sandboxes: those in use, those that stand ready, those that are taken down.
JOBS_MOST = 32
_SECONDS = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}
_CPUS_MAX = 1_000_000  #: far beyond any machine, and within what the kernel can count
_PIDS_MAX = 1 << 22  #: PID_MAX_LIMIT of the kernel's linux/threads.h: pids.max takes no more
_LONGEST = 10**9  #: seconds, some 30 years: a deadline is never so far off that a clock's arithmetic overflows


def choice(value: object, allowed: Iterable[str]) -> str:
    """One of a few words, exactly as they are spelt."""
    words = tuple(allowed)
    if isinstance(value, str) and value in words:
        return value
    listed = " or ".join(f'"{word}"' for word in words)
    raise ValueError(f"allowed is {listed}.{nearest(str(value), words)}")


def true_or_false(value: object) -> bool:
    """One of the two, and nothing that counts as one of them."""
    if not isinstance(value, bool):
        raise ValueError("allowed are True and False.")  # noqa: TRY004 - as all readers do
    return value


def true_or_false_word(value: object) -> bool:
    """The same, or one of them as the command line and the ini file have it."""
    if value in ("true", "false"):
        return value == "true"
    if isinstance(value, bool):
        return value
    raise ValueError("allowed are True and False, in an option or ini file true and false.")


def integer(value: object) -> int | None:
    """An int, also numpy's, but no bool: ``memory=True`` is a slip, not one byte."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]  # that is the question
    except TypeError:
        return None


def _number(value: object) -> float | None:
    """A finite number, or text that is one in plain digits."""
    if isinstance(value, str):
        if not re.fullmatch(r"-?(\d{1,19}(\.\d{0,19})?|\.\d{1,19})", value.strip(), re.ASCII):
            return None
        return float(value)
    if isinstance(value, bool):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever has __float__: Decimal, Fraction, numpy
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def cores(value: object) -> float:
    """A number of cores' worth of CPU time, as ``docker --cpus``."""
    number = _number(value)
    if number is None or not CPUS_MIN <= number <= _CPUS_MAX:
        raise ValueError(f"allowed is a number of cores of at least {CPUS_MIN}, such as 0.5 or 2.")
    return number


def seconds(value: object) -> float:
    """Wall seconds, more than 0."""
    number = _number(value)
    if number is not None and 0 < number <= _LONGEST:
        return number
    hint = ""
    if (
        isinstance(value, str)
        and (match := re.fullmatch(r"\s*(\d{1,9})\s*([a-z]+)\s*", value))
        and match[2] in _SECONDS
    ):
        hint = f" Did you mean {float(int(match[1]) * _SECONDS[match[2]]):g}?"
    elif number == 0:
        hint = " Did you mean None, no limit?"
    raise ValueError(f"allowed is a number of seconds greater than 0, such as 10 or 0.5.{hint}")


def seconds_or_never(value: object) -> float:
    """Seconds, 0 for no limit."""
    return 0.0 if _number(value) == 0 else seconds(value)


def foreign_seconds(value: object) -> object:
    """pytest-timeout's value in our terms: there, 0 and less switch the limit off."""
    try:
        return None if float(value) <= 0 else value  # type: ignore[arg-type]  # that is the question
    except (TypeError, ValueError):
        return value


def jobs(value: object) -> int:
    """How many sandboxes run at a time; 0: as many as there are cores."""
    if value == "auto":
        return 0
    try:
        number = count(value, 1)
    except ValueError:
        number = 0
    if not 1 <= number <= JOBS_MOST:
        raise ValueError(f'allowed are whole numbers from 1 to {JOBS_MOST}, and "auto".')
    return number


def count(value: object, least: int = 1) -> int:
    """A whole number of at least ``least``, or text that is one."""
    if isinstance(value, str):
        number = int(value) if re.fullmatch(r"\s*\d{1,18}\s*", value, re.ASCII) else None
    else:
        number = integer(value)
    if number is None or number < least:
        raise ValueError(f"allowed is a whole number of at least {least}.")
    return number


def pids(value: object) -> int:
    """A number of processes and threads, as ``docker --pids-limit``."""
    number = count(value)
    if number > _PIDS_MAX:
        raise ValueError(f"the kernel takes {_PIDS_MAX} at most, its largest process id; None is no cap.")
    return number


def hostname(value: object) -> str:
    """A host name as hostname(7) has it: labels of letters, digits and hyphens joined by dots, up to 64 characters."""
    rule = "allowed are letters, digits and hyphens (none at a label's ends), labels of 1 to 63 joined by dots."
    if not isinstance(value, str):
        raise ValueError(rule)  # noqa: TRY004 - every reader raises ValueError, that is its contract
    if len(value) > HOST_NAME_MAX:
        raise ValueError(f"{len(value)} characters; the kernel takes {HOST_NAME_MAX}.")
    if not all(
        re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", label, re.IGNORECASE | re.ASCII)
        for label in value.split(".")
    ):
        spelling = re.sub(r"[^a-zA-Z0-9.]+", "-", value).strip("-.")
        raise ValueError(f'{rule} Did you mean "{spelling}"?' if spelling and spelling != value else rule)
    return value


def network(value: object) -> str:
    """A kind of network; names tell any number of bridges apart."""
    kind, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if kind == "bridge" and colon:
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}", name, re.ASCII):
            raise ValueError('allowed as the name of a bridge are letters, digits and "-", "_", ".": "bridge:db".')
        return f"bridge:{name}"
    return choice(value, ("none", "bridge", "bridge:NAME", "nat", "host"))


def image_name(value: object) -> str:
    """A folder's name, as images have it."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", value, re.ASCII):
        raise ValueError("allowed is the name of an image: letters, digits, dots, hyphens and underscores.")
    return value
