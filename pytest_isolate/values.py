"""What a single value of the contract may look like: from what a user wrote to a plain, checked value.

Every reader takes what stood in a marker (any object) or on the command line and in the ini file (text) and raises
``ValueError`` with the rest of a sentence: what is wrong, what is allowed, and the nearest right spelling.
"""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Iterable, Mapping

#: Longest host name that sethostname(2) takes, HOST_NAME_MAX of limits.h.
HOST_NAME_MAX = 64

#: Smallest CPU quota: the kernel takes none under 1 ms (Documentation/scheduler/sched-bwc.rst), a period is 100 ms.
CPUS_MIN = 0.01

_SIZE = r"(?P<number>\d{1,19}(\.\d{1,9})?|\.\d{1,9})\s?((?P<unit>[kmgt])(i?b)?|b)?"
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZES = 'bytes as an int, or a number with K, M, G or T (powers of 1024) as "50M" or "1.5G"'
_SECONDS = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}
_LARGEST = (1 << 63) - 1  #: the kernel counts bytes in a signed 64-bit integer
_CPUS_MAX = 1_000_000  #: far beyond any machine, and within what the kernel can count
_PIDS_MAX = 1 << 22  #: PID_MAX_LIMIT of the kernel's linux/threads.h: pids.max takes no more
_LAST_PORT = 65535
_LONGEST = 10**9  #: seconds, some 30 years: a deadline is never so far off that a clock's arithmetic overflows


def shown(value: object) -> str:
    """``value`` as it stands in an error, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 - both only here


def nearest(word: str, allowed: Iterable[str]) -> str:
    """`` Did you mean X?`` if one of ``allowed`` is near ``word``, else nothing."""
    import difflib  # noqa: PLC0415 - over a millisecond, and only an error needs it

    close = difflib.get_close_matches(word.strip().lower(), list(allowed), n=1)
    return f" Did you mean {close[0]}?" if close else ""


def choice(value: object, allowed: Iterable[str]) -> str:
    """One of a few words, exactly as they are spelt."""
    words = tuple(allowed)
    if isinstance(value, str) and value in words:
        return value
    listed = " or ".join(f'"{word}"' for word in words)
    raise ValueError(f"allowed is {listed}.{nearest(str(value), words)}")


def size_text(size: int, digits: int | None = None) -> str:
    """Bytes as Docker writes them: ``50M``, ``1.5G``; exact unless ``digits`` after the point are asked for."""
    for unit, factor in (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if digits is not None:
            # By the figure that would be shown: one byte less than 1M is "1.0M", not "1024.0K".
            if round(size * 1024 / factor, digits) >= 1024:  # noqa: PLR2004 - the units' step
                return f"{size / factor:.{digits}f}{unit}"
        elif size >= factor and size * 1000 % factor == 0:
            whole, thousandths = divmod(size * 1000 // factor, 1000)
            return f"{whole}.{thousandths:03}".rstrip("0").rstrip(".") + unit
    return str(size)


def size(value: object, least: int = 0) -> int:
    """Bytes: an integer, or text as Docker takes it: ``50M``, ``1.5g``, ``512k``, ``50MB``, ``50MiB``."""
    count = _bytes_of_text(value) if isinstance(value, str) else _integer(value)
    if count is None:
        raise ValueError(f"allowed is {_SIZES}.{_nearest_size(value)}")
    if count < 0:
        raise ValueError(f"a size is not negative; allowed is {_SIZES}.")
    if count < least:
        # A bare "50" is the usual way to get here: Docker reads it as bytes too, nobody means it.
        hint = f' Did you mean "{count}M"?' if count else ""
        raise ValueError(f"{count} bytes are too few; the least is {size_text(least)}.{hint}")
    if count > _LARGEST:
        raise ValueError("more bytes than the kernel can count; the most is 2**63 - 1.")
    return count


def memory_size(value: object) -> int:
    """Bytes, at least one page: the kernel counts in pages, and less than one is a cap of nothing."""
    return size(value, least=os.sysconf("SC_PAGE_SIZE"))


def _bytes_of_text(text: str) -> int | None:
    match = re.fullmatch(_SIZE, text.strip(), re.IGNORECASE | re.ASCII)
    if not match:
        return None
    from fractions import Fraction  # noqa: PLC0415 - each start of pytest would load it, and decimal with it

    count = Fraction(match["number"]) * _UNITS[(match["unit"] or "").lower()]
    if match["unit"] is None and count.denominator != 1:  # half a byte
        return None
    return int(count)


def _nearest_size(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value) and value >= 1:
        return f' Did you mean "{size_text(int(value))}"?'
    if isinstance(value, str) and (match := re.match(r"\s*(\d{1,19}(?:[.,]\d{1,9})?)[ _]*([kmgtKMGT])", value)):
        number = match[1].replace(",", ".")
        return f' Did you mean "{number}{match[2].upper()}"?'
    return ""


def _integer(value: object) -> int | None:
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


def foreign_seconds(value: object) -> object:
    """pytest-timeout's value in our terms: there, 0 and less switch the limit off."""
    try:
        return None if float(value) <= 0 else value  # type: ignore[arg-type]  # that is the question
    except (TypeError, ValueError):
        return value


def count(value: object, least: int = 1) -> int:
    """A whole number of at least ``least``, or text that is one."""
    if isinstance(value, str):
        number = int(value) if re.fullmatch(r"\s*\d{1,18}\s*", value, re.ASCII) else None
    else:
        number = _integer(value)
    if number is None or number < least:
        raise ValueError(f"allowed is a whole number of at least {least}.")
    return number


def pids(value: object) -> int:
    """A number of processes and threads, as ``docker --pids-limit``."""
    number = count(value)
    if number > _PIDS_MAX:
        raise ValueError(f"the kernel takes {_PIDS_MAX} at most, its largest process id; None is no cap.")
    return number


def ports(value: object) -> tuple[int, ...] | None:
    """TCP ports, sorted: from one or several, or ``"session"`` for no more than the session's own; None is ``"none"``.

    On the command line and in the ini file even a single word comes as a list.
    """
    rule = 'allowed is "session", "none", or TCP ports from 1 to 65535 as in [5432, 6379]'
    listed = [value] if isinstance(value, str) or _integer(value) is not None else value
    if not isinstance(listed, Iterable) or isinstance(listed, bytes | bytearray | Mapping):
        raise ValueError(f"{rule}.")  # noqa: TRY004 - as above
    words = [word.strip() if isinstance(word, str) else word for word in listed]
    if words == ["none"]:
        return None
    return tuple(sorted({_port(word, rule) for word in words if word != "session"}))


def _port(word: object, rule: str) -> int:
    number = _integer(word)
    if isinstance(word, str) and re.fullmatch(r"\d{1,5}", word, re.ASCII):
        number = int(word)
    if number is not None and 1 <= number <= _LAST_PORT:
        return number
    if word == "none":
        raise ValueError(f'"none" closes all and stands alone; {rule}.')
    hint = ""
    if isinstance(word, str):
        several = re.fullmatch(r"\d{1,5}(?:[,\s]+\d{1,5})+", word, re.ASCII)
        hint = f" Did you mean {re.findall(r'[0-9]+', word)}?" if several else nearest(word, ("session", "none"))
    raise ValueError(f"{shown(word)} is no port; {rule}.{hint}")


def core_list(value: object) -> str:
    """Cores in the list format of cpuset(7), sorted and joined: ``"3,0-1,1"`` is ``"0-1,3"``. An int is one core."""
    text = str(value) if _integer(value) is not None else value
    example = 'allowed are core numbers and ranges such as "0-1,3".'
    if not isinstance(text, str) or not text.strip():
        raise ValueError(example)
    ranges: list[tuple[int, int]] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", part, re.ASCII)
        if not match:
            raise ValueError(f"{shown(part)} is no core; {example}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f'{first}-{last} runs backwards. Did you mean "{last}-{first}"?')
        ranges.append((first, last))
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in joined)


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
    """A kind of network; of bridges any number can be told apart by a name."""
    kind, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if kind == "bridge" and colon:
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}", name, re.ASCII):
            raise ValueError('allowed as the name of a bridge are letters, digits and "-", "_", ".": "bridge:db".')
        return f"bridge:{name}"
    return choice(value, ("none", "bridge", "bridge:NAME", "nat", "host"))


def paths(value: object, base: str) -> tuple[str, ...]:
    """Absolute paths, normalised, each once: from one path or several; relative ones from ``base``, ``~`` expanded."""
    listed = [value] if isinstance(value, str | os.PathLike) else value
    if not isinstance(listed, Iterable) or isinstance(listed, bytes | bytearray | Mapping):
        raise ValueError("allowed is a path or a list of paths.")  # noqa: TRY004 - as above
    return tuple(dict.fromkeys(_path(each, base) for each in listed))


def _path(value: object, base: str) -> str:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise ValueError(f"{shown(value)} is no path; allowed is a path or a list of paths.")
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise ValueError(f"{shown(text)}: no such user to expand; write ./{text} for a file of that name.")
    path = os.path.normpath(os.path.join(base, expanded))
    if path.strip("/") == "":
        raise ValueError('"/" would bind the whole file system through; name the directories that the test may change.')
    return path


def image_name(value: object) -> str:
    """A folder's name, as images have it."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", value, re.ASCII):
        raise ValueError("allowed is the name of an image: letters, digits, dots, hyphens and underscores.")
    return value


def rates(value: object) -> tuple[int | None, int | None]:
    """Bytes per second as (read, write), from a mapping with either or both."""
    rule = 'allowed is a mapping such as {"read": "20M", "write": "10M"}'
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"{rule}.")
    for name in value:
        if name not in ("read", "write"):
            raise ValueError(f"{shown(name)} is neither read nor write; {rule}.{nearest(str(name), ('read', 'write'))}")
    read, write = (None if value.get(name) is None else size(value[name], least=1) for name in ("read", "write"))
    return read, write


def variables(value: object) -> tuple[tuple[str, str | None], ...]:
    """Environment variables as sorted pairs; ``None`` removes one."""
    rule = 'allowed is a mapping of names to text or None, such as {"LANG": "C", "DISPLAY": None}'
    if not isinstance(value, Mapping):
        raise ValueError(f"{rule}.")  # noqa: TRY004 - as above
    for name, text in value.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise ValueError(f"{shown(name)} is no name of a variable; {rule}.")
        if text is not None and (not isinstance(text, str) or "\0" in text):
            hint = f' Did you mean "{text}"?' if isinstance(text, int | float) else ""
            raise ValueError(f"{name} is {shown(text)}; {rule}.{hint}")
    return tuple(sorted(value.items(), key=operator.itemgetter(0)))
