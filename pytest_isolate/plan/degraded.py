"""What stands in, weaker, for what the host lacks: ``--isolate-unsupported=degrade``. Never in silence.

A substitute does not make a key count as in force: header, summary and report name the key all the same.
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from pytest_isolate.linux.flags import Clone
from pytest_isolate.linux.procfs import own_memory
from pytest_isolate.plan.host import Host
from pytest_isolate.spec.errors import UnsupportedError
from pytest_isolate.spec.lists import cores
from pytest_isolate.spec.spec import Spec

_NOTHING = "nothing"
_NAMES = {Clone.NEWUSER: "user", Clone.NEWNET: "network", Clone.NEWUTS: "uts", Clone.NEWIPC: "ipc"}


class Degraded(NamedTuple):
    """How a Spec is run that the host can't enforce as a whole; by default, as asked."""

    keys: tuple[tuple[str, str], ...] = ()  #: of the contract, not in force: the reason, and what stands in
    stand_ins: Mapping[str, str] = MappingProxyType({})  #: of those keys: what stands in, if anything does
    cores: tuple[int, ...] = ()  #: for sched_setaffinity(2)
    data: int | None = None  #: bytes that each process may allocate on top of what it inherits
    writable: tuple[str, ...] | None = None  #: the only trees that may be written, by landlock(7)

    def rlimits(self) -> tuple[tuple[int, int], ...]:
        """Pairs for setrlimit(2), for a fork of this moment: RLIMIT_DATA counts what it inherits, too."""
        if self.data is None:
            return ()
        return ((resource.RLIMIT_DATA, own_memory("data") + self.data),)


def degraded(missing: Sequence[UnsupportedError], spec: Spec, host: Host, joined: Clone, *, landlock: int) -> Degraded:
    """What becomes of ``spec`` where the keys in ``missing`` can't be enforced.

    :param joined: the namespaces that the test's process joins all the same.
    :param landlock: the kernel's version of Landlock, 0 for none.
    """
    keys = {error.key for error in missing}
    writable = _writable(spec) if landlock and not host.sandbox else None
    instead: dict[str, str] = {}
    if not host.sandbox:
        names = " ".join(name for flag, name in _NAMES.items() if flag & joined)
        kept = [f"only its own {names} namespaces"] if names else []
        if writable is not None:
            kept.append(f"no writing (Landlock) but in {' '.join(writable)}")
        instead["isolate"] = ", ".join(kept) or _NOTHING
    if "memory" in keys:
        instead["memory"] = "a limit on the data of each single process"
    if "cpuset" in keys:
        instead["cpuset"] = "an affinity, which the test can change"
    return Degraded(
        keys=tuple((error.key, _sentence(error.reason, instead.get(error.key))) for error in missing),
        cores=tuple(sorted(cores(spec.limits.cpuset or ""))) if "cpuset" in keys else (),
        stand_ins={key: words for key, words in instead.items() if words != _NOTHING},
        data=spec.limits.memory if "memory" in keys else None,
        writable=writable,
    )


def _writable(spec: Spec) -> tuple[str, ...]:
    folders = (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev")  # noqa: S108 - for the tests' own use
    return tuple(dict.fromkeys((*folders, *spec.writable)))


def _sentence(reason: str, instead: str | None) -> str:
    return reason if instead is None else f"{reason}; instead: {instead}"
