"""What of the contract can be in force on this host: each capability is asked for as a test asks for it.

So reasons and remedies are those that the error beside such a test has.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol

from pytest_isolate.spec.errors import IsolateError, SetupError, UnsupportedError
from pytest_isolate.spec.keys import KEYS
from pytest_isolate.spec.spec import Spec

if TYPE_CHECKING:
    from pytest_isolate.plan.degraded import Degraded
    from pytest_isolate.plan.host import Host

#: weaker: a test that asks for it is refused, and ``--isolate-unsupported=degrade`` has something that stands in.
State = Literal["works", "weaker", "lacking"]
_FOUNDATION = "isolate"  # the key of errors that are about the sandbox as such


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something does not work here."""

    why: str  #: what was tried, on what, and the errno
    remedy: str  #: what the user can do about it


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One capability."""

    key: str  #: what ``--strict`` takes
    about: str
    state: State
    reasons: tuple[Reason, ...] = ()  #: none where it works
    stand_in: str = ""  #: what a test gets with ``--isolate-unsupported=degrade``, where it is weaker
    note: str = ""  #: what is good to know where it works


class Asked(Protocol):
    """What is asked: :class:`~pytest_isolate.session.sandbox_pool.Sandboxes`, which degrade."""

    host: Host

    def missing(self, spec: Spec) -> list[UnsupportedError]:
        """What of ``spec`` the host can't enforce."""

    def as_run(self, spec: Spec) -> Degraded:
        """How ``spec`` is run all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """What ``--strict`` has a name for, and the test that asks for it."""

    key: str
    about: str
    asks: Mapping[str, object] = field(default_factory=dict)  #: keys of the contract, as in the marker
    lack: str = ""  #: key of the errors that are about it, if it is another
    in_sandbox: bool = True  #: there is none of it without a sandbox

    def examine(self, sandboxes: Asked) -> Finding:
        """Ask for it. :raises SetupError: it could not be tried."""
        spec = Spec.of("/", **self.asks)
        errors = [error for error in sandboxes.missing(spec) if error.key in self._keys(sandboxes.host)]
        if not errors:
            return Finding(key=self.key, about=self.about, state="works", note=self._note(sandboxes.host))
        stand_in = sandboxes.as_run(spec).stand_ins.get(self.lack or self.key, "")
        if self.lack == _FOUNDATION and sandboxes.host.sandbox:
            stand_in = "a sandbox without that"
        return Finding(
            key=self.key,
            about=self.about,
            state="weaker" if stand_in else "lacking",
            reasons=tuple(dict.fromkeys(Reason(error.reason, error.remedy) for error in errors)),
            stand_in=stand_in,
        )

    def _keys(self, host: Host) -> set[str]:
        """Those of errors that are about it."""
        keys = {self.lack or self.key}
        if self.key in KEYS and (behind := KEYS[self.key].behind) is not None:
            keys.add(behind)
        return keys | {_FOUNDATION} if self.in_sandbox and not host.sandbox else keys

    def _note(self, host: Host) -> str:
        if self.key != "overlay":
            return ""
        shown = [lack.target for lack in host.lacks if lack.what == "tree"]
        return f"but for {', '.join(shown)}: see `python -m pytest_isolate docs hosts`" if shown else ""


#: All of them, in the order in which they are shown.
CAPABILITIES = (
    Capability(key="sandbox", about="processes, users and mounts of its own for each test", lack=_FOUNDATION),
    Capability(key="overlay", about="tests may write to all files; nothing of it stays"),
    Capability(key="disk", about="cap on what a test writes", asks={"disk": "64M"}),
    Capability(key="network", about="ports and loopback of its own, no way out"),
    Capability(
        key="bridge", about='network="bridge": tests in one network', asks={"network": "bridge"}, lack="network"
    ),
    Capability(key="nat", about='network="nat": a way to the outside', asks={"network": "nat"}, lack="network"),
    Capability(key="hostname", about="host name of its own"),
    Capability(key="memory", about="cap on memory", asks={"memory": "64M"}, in_sandbox=False),
    Capability(key="swap", about="cap on swap beside it", asks={"memory": "64M"}, in_sandbox=False),
    Capability(key="cpus", about="CPU quota", asks={"cpus": 0.5}, in_sandbox=False),
    Capability(
        key="cpuset", about="choice of cores", asks={"cpuset": str(min(os.sched_getaffinity(0)))}, in_sandbox=False
    ),
    Capability(key="pids", about="cap on processes", asks={"pids": 64}, in_sandbox=False),
    Capability(key="io", about="cap on bytes per second", asks={"io": {"read": "100M"}}, in_sandbox=False),
)


def examine(sandboxes: Asked) -> list[Finding]:
    """All capabilities of this host."""
    return [_try(each, sandboxes) for each in CAPABILITIES]


def _try(capability: Capability, sandboxes: Asked) -> Finding:
    try:
        return capability.examine(sandboxes)
    except SetupError as error:  # such as of a helper process that does not start
        return Finding(key=capability.key, about=capability.about, state="lacking", reasons=(_reason(error),))


def find_none(error: IsolateError) -> list[Finding]:
    """The same where there is nobody to ask."""
    reason = _reason(error)
    return [Finding(key=each.key, about=each.about, state="lacking", reasons=(reason,)) for each in CAPABILITIES]


def everything(findings: Sequence[Finding]) -> Spec:
    """One Spec that asks for all that works, with the network that most tests have."""
    working = {finding.key for finding in findings if finding.state == "works"}
    asked = [each.asks for each in CAPABILITIES if each.key in working and each.lack != "network"]
    return Spec.of("/", **{key: value for asks in asked for key, value in asks.items()})


def failed(findings: Sequence[Finding], error: IsolateError) -> list[Finding]:
    """``findings``, after a test that asked for no more than what works could not be run."""
    reasons = (_reason(error),)
    return [replace(each, state="lacking", reasons=reasons) if each.key == "sandbox" else each for each in findings]


def _reason(error: IsolateError) -> Reason:
    if isinstance(error, UnsupportedError | SetupError):
        return Reason(error.reason, error.remedy)
    return Reason(str(error), "")
