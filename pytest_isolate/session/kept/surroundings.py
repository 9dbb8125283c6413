"""What a test ran in beside its files: enough to make the same sandbox once more."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from pytest_isolate.cgroups.session_names import first_process
from pytest_isolate.linux import files
from pytest_isolate.linux.calls import calls
from pytest_isolate.session.network.session_listeners import COOKIE
from pytest_isolate.spec.keys import IN_SESSION
from pytest_isolate.spec.spec import Limits, Spec

#: What pytest and this package set for themselves, and what xdist says of a terminal that its workers have not.
_OURS = frozenset((COOKIE, IN_SESSION, "PYTEST_CURRENT_TEST", "PYTEST_VERSION", "COLUMNS", "LINES"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """See :class:`~pytest_isolate.session.keeper.Keeper` for what goes there."""

    spec: Spec
    cwd: str  #: pytest's current folder
    places: tuple[str, ...]
    images: str  #: folder that has the images
    cgroup: str | None
    degrade: bool
    env: tuple[tuple[str, str | None], ...]  #: see :func:`changed_environment`

    def data(self) -> dict[str, Any]:
        """As ``layer.json`` has it."""
        found = asdict(self)
        found["spec"]["asked"] = sorted(self.spec.asked)
        return found

    @classmethod
    def of(cls, data: dict[str, Any]) -> Surroundings:
        """The reverse of :meth:`data`. :raises KeyError: (or ValueError, TypeError) it is none of these."""
        spec = {name: _tuple(value) for name, value in data["spec"].items()}
        spec |= {"limits": Limits(**spec["limits"]), "asked": frozenset(spec["asked"])}
        return cls(**{name: _tuple(value) for name, value in data.items()} | {"spec": Spec(**spec)})


def changed_environment(now: Mapping[str, str]) -> tuple[tuple[str, str | None], ...]:
    """What conftest.py files, plugins and fixtures have set, or removed (None), since the session began.

    What was there before is not stored: it may have the user's secrets, and who enters a layer has it as well.
    """
    began: dict[str, str] = {}
    with suppress(OSError):
        text = calls.fsdecode(files.read_bytes(f"/proc/{first_process(now.get(COOKIE, ''))}/environ"))
        began = dict(line.split("=", 1) for line in text.split("\0") if "=" in line)
    if not began:  # a program that changed its title has overwritten it
        return ()
    names = sorted((now.keys() | began.keys()) - _OURS)
    return tuple((name, now.get(name)) for name in names if now.get(name) != began.get(name))


def environment(changes: tuple[tuple[str, str | None], ...]) -> dict[str, str]:
    """That of this process, with ``changes``."""
    named = {**os.environ, **dict(changes)}
    return {name: value for name, value in named.items() if value is not None}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
