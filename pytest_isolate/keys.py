"""The table of the contract's keys: how a value of each is read, and what it means.

Pure, and loaded at every start of pytest, as command line and ini file are read by it: hence apart from what is made of
the values (:mod:`pytest_isolate.spec`), which only a run with isolated tests needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pytest_isolate import values
from pytest_isolate.errors import SpecError
from pytest_isolate.values import nearest, shown, size_text

__all__ = ["KEYS", "Fields", "Key", "Layer", "parse", "parse_all"]

#: Names and values of fields of :class:`pytest_isolate.spec.Limits` and ``Spec``, as one key sets them.
Fields = Mapping[str, Any]
#: What one place says: keys, each with its fields.
Layer = Mapping[str, Fields]


class Key(NamedTuple):
    """A key of the contract: its name, how its value is read (``ValueError`` if it can't be), what it means."""

    name: str
    read: Callable[[object, str], Fields]
    meaning: str


def _one(name: str, read: Callable[[object], object]) -> Callable[[object, str], Fields]:
    return lambda value, _base: {name: read(value)}


def _cap(name: str, read: Callable[[object], object]) -> Callable[[object, str], Fields]:
    """As :func:`_one`; ``None``, or ``none`` as text, lifts what a place further out has set."""
    return lambda value, _base: {name: None if value in (None, "none") else read(value)}


def _io(value: object, _base: str) -> Fields:
    read, write = (None, None) if value is None else values.rates(value)
    return {"io_read": read, "io_write": write}


KEYS: Mapping[str, Key] = {
    key.name: key
    for key in (
        Key(
            "memory", _cap("memory", values.memory_size), 'cap on the memory of all its processes: "50M", "1.5G", bytes'
        ),
        Key("swap", _one("swap", values.size), "swap on top of memory; 0"),
        Key("cpus", _cap("cpus", values.cores), "CPU quota in cores: 0.5"),
        Key("cpuset", _cap("cpuset", values.core_list), 'cores it may run on: "0-1"'),
        Key("pids", _cap("pids", values.count), "most processes and threads at a time"),
        Key("io", _io, 'bytes per second on the block devices under the file system: {"read": "20M", "write": "10M"}'),
        Key("disk", _one("disk", values.memory_size), "most bytes in the writable layer; 1G"),
        Key("timeout", _cap("timeout", values.seconds), "wall seconds for setup, call and teardown"),
        Key(
            "network",
            _one("network", values.network),
            '"none", a network of its own with loopback only (default); "bridge" or "bridge:NAME", joined with all '
            'sandboxes of that name; "nat", with a way to the outside; or "host"',
        ),
        Key(
            "host_ports",
            _one("host_ports", values.ports),
            "TCP ports of the host's loopback to reach, beside the session's own; or session (default), or none",
        ),
        Key(
            "image", _cap("image", values.image_name), "root file system to run on, a folder's name in fixtures_images"
        ),
        Key("hostname", _one("hostname", values.hostname), "host name inside; isolated"),
        Key(
            "user",
            _one("user", lambda value: values.choice(value, ("same", "root"))),
            '"same" uid and gid as outside (default), or "root" inside only',
        ),
        Key(
            "writable",
            lambda value, base: {"writable": values.paths(value, base)},
            "paths where what the test writes stays",
        ),
        Key("env", _one("env", values.variables), "variables to set, None removes one"),
    )
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
        return KEYS[key].read(value, base)
    except ValueError as error:
        raise SpecError(place, f"{key}={shown(value)}: {error}") from None


def parse_all(keys: Mapping[str, object], place: str, base: str = "/") -> tuple[Layer, list[SpecError]]:
    """Read all of ``keys``; what is wrong comes back as a list, so that a user sees all of it at once."""
    layer: dict[str, Fields] = {}
    errors: list[SpecError] = []
    for key, value in keys.items():
        try:
            layer[key] = parse(key, value, place, base)
        except SpecError as error:
            errors.append(error)
    return layer, errors


def _unknown(key: str, value: object) -> str:
    """The sentence about a key that is not in the table; those of PyPI's pytest-isolate are told what replaces them."""
    written = f"{key}={shown(value)}"
    if key == "mem_limit":
        try:
            instead = f'memory="{size_text(values.size(value))}"'
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
