"""For tests that want to know of their sandbox: the type of the fixture ``isolated``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_isolate.spec.keys import KEYS, is_cap_set

if TYPE_CHECKING:
    from pytest_isolate.sandbox.outcome import Usage
    from pytest_isolate.spec.spec import Limits, Spec


class Isolated:
    """The sandbox that a test runs in. False as a truth value if it runs in none, but in pytest's own process."""

    def __init__(
        self,
        spec: Spec | None = None,
        degraded: Mapping[str, str] = MappingProxyType({}),
        ask: Callable[[], Usage] | None = None,
    ) -> None:
        self.spec = spec  #: as it was asked for
        self.degraded = degraded  #: keys not in force, each with the reason
        self.ask = ask

    def __bool__(self) -> bool:
        """Whether there is a sandbox at all, with namespaces and a file system of its own."""
        return self.spec is not None and "isolate" not in self.degraded

    @property
    def limits(self) -> Limits:
        """Caps that were asked for, in bytes, cores, seconds; without a sandbox none."""
        from pytest_isolate.spec.spec import Limits  # noqa: PLC0415 - not at each start of pytest

        return Limits() if self.spec is None else self.spec.limits

    def in_force(self, key: str) -> bool:
        """Whether what the test asked for by a key of the marker, or got by default, is enforced.

        A cap that nobody set is not in force. ``"isolate"`` stands for the sandbox as such.

        :raises ValueError: there is no such key.
        """
        if key != "isolate" and key not in KEYS:
            from pytest_isolate.spec.messages import nearest  # noqa: PLC0415 - not at each start of pytest

            raise ValueError(f"there is no key {key!r}; allowed are isolate, {', '.join(KEYS)}.{nearest(key, KEYS)}")
        if self.spec is None or key in self.degraded:
            return False
        if key == "isolate":
            return True
        described = KEYS[key]
        if described.kind == "cap":
            return described.behind not in self.degraded and is_cap_set(described, self.spec.limits)
        return described.kind == "process" or "isolate" not in self.degraded

    def usage(self) -> Usage:
        """What the test and all that it started have used so far; None for what the kernel does not tell.

        :raises RuntimeError: there is no sandbox, so nobody counts.
        """
        if self.ask is None:
            raise RuntimeError("this test runs in pytest's own process, where nobody counts what it uses")
        return self.ask()
