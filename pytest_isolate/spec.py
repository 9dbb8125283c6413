"""What a test asks for, as frozen values, and the table of the contract's keys that makes them.

Three steps, all pure: :func:`parse` reads one key's value, a *layer* is what one place (a marker, the command line, the
ini file) says about several keys, and :meth:`Spec.merged` lays them over one another, the closest first, key by key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from pytest_isolate import values
from pytest_isolate.errors import SpecError
from pytest_isolate.values import nearest, shown, size_text

__all__ = ["KEYS", "Fields", "Key", "Layer", "Limits", "Spec", "conflict", "parse", "parse_all", "size_text"]

#: Names and values of fields of Limits and Spec, as one key sets them.
Fields = Mapping[str, Any]
#: What one place says: keys, each with its fields.
Layer = Mapping[str, Fields]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps on one run and everything it starts; ``None`` is no cap."""

    memory: int | None = None  #: bytes, page cache and files on tmpfs included
    swap: int = 0  #: bytes of swap on top of ``memory``
    cpus: float | None = None  #: CPU quota in cores
    cpuset: str | None = None  #: cores it may run on, "0-1,3"
    pids: int | None = None  #: most processes and threads
    io_read: int | None = None  #: bytes per second on each block device under the file system
    io_write: int | None = None
    disk: int = 1 << 30  #: bytes in the writable layer
    timeout: float | None = None  #: wall seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One test's sandbox as asked for.

    ``asked`` holds the keys that somebody wrote down, as opposed to defaults; a cap that somebody lifted
    (``memory=None``) asks for nothing and is not in it.
    """

    limits: Limits = field(default_factory=Limits)
    network: str = "none"  #: "none", "bridge", "bridge:NAME", "nat" or "host"
    #: TCP ports of the host's loopback to reach, beside those that the session's own processes serve; None closes all
    host_ports: tuple[int, ...] | None = ()
    image: str | None = None  #: name of a root file system; None: the host's own tree
    hostname: str = "isolated"
    user: str = "same"  #: "same" or "root"
    writable: tuple[str, ...] = ()  #: absolute paths bound through to the host
    env: tuple[tuple[str, str | None], ...] = ()  #: variables to set, None removes
    asked: frozenset[str] = frozenset()

    @property
    def bridge(self) -> str | None:
        """Name of the bridge that the sandbox is joined to, "" for the one without a name; None: to none."""
        kind, _, name = self.network.partition(":")
        return name if kind == "bridge" else None

    @classmethod
    def of(cls, base: str = "/", **keys: object) -> Spec:
        """A Spec from the contract's keys, spelt as in the marker: ``Spec.of(memory="50M", timeout=10)``.

        :param base: absolute directory from which relative paths of ``writable`` count.
        :raises SpecError: at the first wrong key or value.
        """
        layer, errors = parse_all(keys, "Spec.of", base)
        if errors:
            raise errors[0]
        spec = cls.merged([layer])
        if problem := conflict(spec):
            raise SpecError("Spec.of", problem[1])
        return spec

    @classmethod
    def merged(cls, layers: Iterable[Layer]) -> Spec:
        """Lay ``layers`` over one another, the closest first: of each key, the first that has it wins as a whole."""
        chosen: dict[str, Fields] = {}
        for layer in layers:
            for key, value in layer.items():
                chosen.setdefault(key, value)
        flat = {name: value for part in chosen.values() for name, value in part.items()}
        limits = Limits(**{name: flat.pop(name) for name in _LIMITS & flat.keys()})
        asked = frozenset(key for key, part in chosen.items() if any(value is not None for value in part.values()))
        return cls(limits=limits, asked=asked, **flat)


_LIMITS = {each.name for each in fields(Limits)}


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


def conflict(spec: Spec) -> tuple[str, str] | None:
    """A key of ``spec`` that makes no sense beside the others, and why."""
    if spec.limits.swap and spec.limits.memory is None:
        swap = size_text(spec.limits.swap)
        return (
            "swap",
            f'swap="{swap}" comes on top of memory, and no memory is set; write memory=... too, or leave swap out.',
        )
    if spec.network == "host" and spec.host_ports is None:
        return (
            "host_ports",
            'host_ports="none" cannot hold beside network="host", which has all of them; leave one of the two out.',
        )
    return None


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
