"""Values that are lists: cores, ports, paths, environment variables."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Iterable, Mapping

from pytest_isolate.spec.messages import nearest, shown
from pytest_isolate.spec.values import integer

_LAST_PORT = 65535
LEAK_MODES = ("off", "report", "fail")
#: Kinds of what a test can leave behind.
LEAK_KINDS = ("process", "port", "thread", "ipc", "file", "network")


def ports(value: object) -> tuple[int, ...] | None:
    """TCP ports, sorted: from one or several, or ``"session"`` for no more than the session's own; None is ``"none"``.

    On the command line and in the ini file even a single word comes as a list.
    """
    rule = 'allowed is "session", "none", or TCP ports from 1 to 65535 as in [5432, 6379]'
    listed = [value] if isinstance(value, str) or integer(value) is not None else value
    if not isinstance(listed, Iterable) or isinstance(listed, bytes | bytearray | Mapping):
        raise ValueError(f"{rule}.")  # noqa: TRY004 - as above
    words = [word.strip() if isinstance(word, str) else word for word in listed]
    if words == ["none"]:
        return None
    return tuple(sorted({_port(word, rule) for word in words if word != "session"}))


def _port(word: object, rule: str) -> int:
    number = integer(word)
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
    text = str(value) if integer(value) is not None else value
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


def paths(value: object, base: str) -> tuple[str, ...]:
    """Absolute paths, normalised, each once: from one path or several; relative ones from ``base``, ``~`` expanded."""
    listed = [value] if isinstance(value, str | os.PathLike) else value
    if not isinstance(listed, Iterable) or isinstance(listed, bytes | bytearray | Mapping):
        raise ValueError("allowed is a path or a list of paths.")  # noqa: TRY004 - as above
    return tuple(dict.fromkeys(_path(each, base) for each in listed))


def writable_paths(value: object, base: str) -> tuple[str, ...]:
    """The same, of what a sandbox does not have of its own."""
    found = paths(value, base)
    for path in found:
        if path == "/dev" or (path.startswith("/dev/") and path.split("/")[2] not in ("shm", "hugepages")):
            raise ValueError(f"each sandbox has a /dev of its own. To let in a device, write devices={shown(path)}.")
    return found


def _path(value: object, base: str) -> str:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not text.strip() or not is_passable(text):
        raise ValueError(f"{shown(value)} is no path; allowed is a path or a list of paths.")
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise ValueError(f"{shown(text)}: no such user to expand; write ./{text} for a file of that name.")
    path = os.path.normpath(os.path.join(base, expanded))
    if path.strip("/") == "":
        raise ValueError('"/" would bind the whole file system through; name the directories that the test may change.')
    return path


def is_passable(text: str) -> bool:
    """Whether a system call can take it: without a NUL, and what is no UTF-8 is a byte of a name (PEP 383)."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def leaks(value: object) -> tuple[str, tuple[str, ...]]:
    """What happens to a test that leaves something behind, and patterns of what may stay: ``KIND:PATTERN``."""
    rule = (
        'allowed is "off", "report" or "fail", and with it patterns of what may stay, as in ["fail", "process:redis*"]'
    )
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, Iterable) or isinstance(words, bytes | bytearray | Mapping):
        raise ValueError(f"{rule}.")  # noqa: TRY004 - as above
    modes, allowed = [], []
    for word in words:
        if word in LEAK_MODES:
            modes.append(str(word))
            continue
        kind, colon, pattern = word.partition(":") if isinstance(word, str) else ("", "", "")
        if kind not in LEAK_KINDS or not pattern:
            hint = nearest(kind, LEAK_KINDS if colon else LEAK_MODES)
            raise ValueError(f"{shown(word)} is none of them; {rule}; kinds are {', '.join(LEAK_KINDS)}.{hint}")
        allowed.append(str(word))
    if len(modes) != 1:
        found = "there is none" if not modes else "there are several"
        raise ValueError(f'one of "off", "report" and "fail" must be among them, and {found}; {rule}.')
    return modes[0], tuple(sorted(set(allowed)))


def variables(value: object) -> tuple[tuple[str, str | None], ...]:
    """Environment variables as sorted pairs; ``None`` removes one."""
    rule = 'allowed is a mapping of names to text or None, such as {"LANG": "C", "DISPLAY": None}'
    if not isinstance(value, Mapping):
        raise ValueError(f"{rule}.")  # noqa: TRY004 - as above
    for name, text in value.items():
        if not isinstance(name, str) or not name or "=" in name or not is_passable(name):
            raise ValueError(f"{shown(name)} is no name of a variable; {rule}.")
        if text is not None and (not isinstance(text, str) or not is_passable(text)):
            hint = f' Did you mean "{text}"?' if isinstance(text, int | float) else ""
            raise ValueError(f"{name} is {shown(text)}; {rule}.{hint}")
    return tuple(sorted(value.items(), key=operator.itemgetter(0)))


def cores(text: str) -> frozenset[int]:
    """The numbers in a list like ``0-2,5``, as cpuset(7) writes them."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first:
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)
