"""What one place, a marker, the command line or the ini file, says about the contract's keys: its key values.

Pure. Only a run in which something is said, or a test is isolated, needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pytest_isolate.spec import lists, sizes, values
from pytest_isolate.spec.device_paths import device_paths
from pytest_isolate.spec.errors import SpecError
from pytest_isolate.spec.keys import KEYS
from pytest_isolate.spec.messages import nearest, shown
from pytest_isolate.spec.sizes import size_text

__all__ = ["Fields", "KeyValues", "parse", "parse_all"]
#: Names and values of fields of :class:`pytest_isolate.spec.spec.Limits` and ``Spec``, as one key sets them.
Fields = Mapping[str, Any]
#: What one place says: keys, each with its fields.
KeyValues = Mapping[str, Fields]


def _one(name: str, read: Callable[[object], object]) -> Callable[[object, str], Fields]:
    return lambda value, _base: {name: read(value)}


def _cap(name: str, read: Callable[[object], object]) -> Callable[[object, str], Fields]:
    """As :func:`_one`; ``None``, or ``none`` as text, lifts what a place further out has set."""
    return lambda value, _base: {name: None if value in (None, "none") else read(value)}


def _io(value: object, _base: str) -> Fields:
    read, write = (None, None) if value is None else sizes.rates(value)
    return {"io_read": read, "io_write": write}


def _leaks(value: object, _base: str) -> Fields:
    mode, allowed = lists.leaks(value)
    return {"leaks": mode, "leaks_allowed": allowed}


#: How the value of each key is read: from it and the directory from which relative paths count; ValueError if it can't.
_READERS: Mapping[str, Callable[[object, str], Fields]] = {
    "memory": _cap("memory", sizes.memory_size),
    "swap": _one("swap", sizes.size),
    "cpus": _cap("cpus", values.cores),
    "cpuset": _cap("cpuset", lists.core_list),
    "pids": _cap("pids", values.pids),
    "io": _io,
    "disk": _one("disk", sizes.memory_size),
    "timeout": _cap("timeout", values.seconds),
    "network": _one("network", values.network),
    "host_ports": _one("host_ports", lists.ports),
    "image": _cap("image", values.image_name),
    "hostname": _one("hostname", values.hostname),
    "user": _one("user", lambda value: values.choice(value, ("same", "root"))),
    "writable": lambda value, base: {"writable": lists.writable_paths(value, base)},
    "devices": _one("devices", device_paths),
    "nested": _one("nested", values.true_or_false_word),
    "leaks": _leaks,
    "env": _one("env", lists.variables),
    "exclusive": _one("exclusive", values.true_or_false),
}


def parse(key: str, value: object, place: str, base: str = "/") -> Fields:
    """Read one key's value.

    :param key: as in the marker (``"memory"``).
    :param place: where it stands, for the error.
    :param base: absolute directory from which relative paths count.
    :raises SpecError: with the value, what is allowed and the nearest right spelling.
    """
    if key not in KEYS:
        raise SpecError(place, _unknown(key, value))
    try:
        return _READERS[key](value, base)
    except ValueError as error:
        raise SpecError(place, f"{key}={shown(value)}: {error}") from None


def parse_all(keys: Mapping[str, object], place: str, base: str = "/") -> tuple[KeyValues, list[SpecError]]:
    """Read all of ``keys``; all errors come back as a list, so that a user sees all of them at once."""
    found: dict[str, Fields] = {}
    errors: list[SpecError] = []
    for key, value in keys.items():
        try:
            found[key] = parse(key, value, place, base)
        except SpecError as error:
            errors.append(error)
    return found, errors


def _unknown(key: str, value: object) -> str:
    """The sentence about a key that is not in the table; for those of PyPI's pytest-isolate, what replaces them."""
    written = f"{key}={shown(value)}"
    if key == "mem_limit":
        try:
            instead = f'memory="{size_text(sizes.size(value))}"'
        except ValueError:
            instead = 'memory="200M"'
        return f"{written} belongs to PyPI's pytest-isolate, another package; write {instead}."
    if key == "cpu_limit":
        return (
            f"{written} belongs to PyPI's pytest-isolate, another package; write timeout={shown(value)} for wall "
            "seconds, or cpus=0.5 for half a core."
        )
    if key == "resources":
        return (
            f"{written} belongs to PyPI's pytest-isolate, another package, and nothing replaces it; "
            "leave it out, or let pytest-xdist's xdist_group keep such tests apart."
        )
    return f"{written}: there is no key {key!r}; allowed are {', '.join(KEYS)}.{nearest(key, KEYS)}"
