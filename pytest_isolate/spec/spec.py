"""What a test asks for, as frozen values.

What each place (a marker, the command line, the ini file) says about keys is read by
:mod:`pytest_isolate.spec.key_values`; :meth:`Spec.merge` merges them key by key, the closest first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from pytest_isolate.spec.errors import SpecError
from pytest_isolate.spec.key_values import Fields, KeyValues, parse_all
from pytest_isolate.spec.sizes import size_text

__all__ = ["Limits", "Spec", "conflict"]


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

    ``asked`` holds the keys that the user wrote down, as opposed to defaults; a cap that the user lifted
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
    devices: tuple[str, ...] = ()  #: paths of the host's devices, or of folders that have devices, to let in
    nested: bool = False  #: whether it may mount, and have sandboxes of its own, as root, too
    leaks: str = "off"  #: what happens to a test that leaves something behind: "off", "report" or "fail"
    leaks_allowed: tuple[str, ...] = ()  #: what may stay, as "process:redis*"
    env: tuple[tuple[str, str | None], ...] = ()  #: variables to set, None removes
    exclusive: bool | None = None  #: whether no other runs at the same time; None: as what it reaches outside demands
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
        values, errors = parse_all(keys, "Spec.of", base)
        if errors:
            raise errors[0]
        spec = cls.merge([values])
        if problem := conflict(spec):
            raise SpecError("Spec.of", problem[1])
        return spec

    @classmethod
    def merge(cls, places: Iterable[KeyValues]) -> Spec:
        """Merge what several places say, the closest first: the first that has a key wins as a whole."""
        chosen: dict[str, Fields] = {}
        for values in places:
            for key, value in values.items():
                chosen.setdefault(key, value)
        flat = {name: value for part in chosen.values() for name, value in part.items()}
        limits = Limits(**{name: flat.pop(name) for name in _LIMITS & flat.keys()})
        asked = frozenset(key for key, part in chosen.items() if any(value is not None for value in part.values()))
        return cls(limits=limits, asked=asked, **flat)


_LIMITS = {each.name for each in fields(Limits)}


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
