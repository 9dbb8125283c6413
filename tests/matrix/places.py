"""Where the cases run: as root and as a user, here and on other kernels in throw-away machines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_REPOSITORY = Path(__file__).parents[2]
#: Starts a throw-away machine with pure cgroup v2: see .ci/run.
VM_RUN = os.environ.get("VM_RUN", "../shared/tools/vm-run")
_KERNELS = {"7.2": "uml-sid", "6.12": "uml-trixie", "6.1": "uml-bookworm"}
_SECONDS = 6000
_USERS = ("root", "user")


@dataclass(frozen=True, slots=True)
class Place:
    """A kernel and a user."""

    name: str
    host: str  #: the first line of its column
    user: str
    kernel: str = ""  #: as VM_RUN calls it; "" for this machine's

    def command(self, tests: Sequence[str], results: Path) -> list[str]:
        """What runs ``tests`` there, with a JUnit file ``results`` outside."""
        place: list[str] = [] if self.user == "root" else [".ci/as-user"]
        if self.kernel:
            who = ["--root"] if self.user == "root" else ["--user", "tester"]
            place = [VM_RUN, *who, "--kernel", self.kernel, "--timeout", str(_SECONDS), "--out", str(results.parent)]
            place += ["--env", f"ISOLATE_LAYOUTS={os.environ['ISOLATE_LAYOUTS']}", "--"]
        run = [".ci/with-capabilities", "sh", "tests/run", "-q", "-p", "no:cacheprovider", f"--junitxml={results}"]
        return [*place, *run, *tests]


def _version() -> str:
    """Of this machine's control groups: a mount of v1's kind has controllers that v2 does not have then."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return "v1" if any(kind == "cgroup" for _, _, kind, *_ in mounts) else "v2"


def places() -> list[Place]:
    """All of them; without VM_RUN those of this machine."""
    kernel = ".".join(os.uname().release.split(".")[:2])
    here = [Place(f"here-{user}", f"{kernel}, {_version()}", user) for user in _USERS]
    if not os.access(_REPOSITORY / VM_RUN, os.X_OK):
        return here
    return here + [
        Place(f"{version}-{user}", f"{version}, v2", user, kernel)
        for version, kernel in _KERNELS.items()
        for user in _USERS
    ]
