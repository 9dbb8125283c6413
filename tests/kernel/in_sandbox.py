"""Runs a shell script in a sandbox planned for this host, without pytest, cgroups or keeper.

As a program it takes a :class:`Job` in JSON, so that a test can put it into a mount namespace that it has prepared.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from subprocess import PIPE, STDOUT, run
from typing import Any

from pytest_isolate import native
from pytest_isolate.builder import Builder
from pytest_isolate.errors import SetupError
from pytest_isolate.host import Host
from pytest_isolate.native import Entry, Fd, Forker
from pytest_isolate.plan import Clone, Plan
from pytest_isolate.planning import plan_for
from pytest_isolate.probe import Attempt, probe
from pytest_isolate.spec import Spec

REPOSITORY = Path(__file__).parent.parent.parent


@dataclass
class Job:
    script: str = "true"
    keys: dict[str, Any] = field(default_factory=dict)  #: of the contract
    layout: str = "root"  #: "rootless": for root, too, as if the mounts were not his to handle
    cwd: str = "/"
    important: Sequence[str] = ()
    meanwhile: str = ""  #: shell script run outside when the sandbox stands ready


@dataclass
class Seen:
    status: int
    output: str
    changes: list[str]  #: "A /path"
    host: str  #: as in pytest's header
    lacks: list[str]
    layers: list[str]

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()


def attempting(builder: Builder, layout: str = "root") -> Attempt:
    """What the keeper gives to the probe."""

    def attempt(plan: Plan) -> SetupError | None:
        if layout == "rootless" and not plan.namespaces & Clone.NEWUSER:
            return SetupError("clone PID 1 into its namespaces", "namespaces", errno.EPERM)
        return builder.attempt(plan)

    return attempt


def perform(job: Job) -> Seen:
    builder = Builder()
    try:
        host = probe(attempting(builder, job.layout), important=job.important)
        return _perform(job, host, builder)
    finally:
        builder.close()


def _perform(job: Job, host: Host, builder: Builder) -> Seen:
    plan = plan_for(Spec.of(**job.keys), host)
    lacks = [f"{lack.what} {lack.target}: {lack.reason}. {lack.remedy}" for lack in host.lacks]
    if not host.sandbox:
        return Seen(-1, "", [], host.describe(), lacks, [])
    sandbox = builder.get(builder.add(plan))
    if job.meanwhile:
        run(["sh", "-ec", job.meanwhile], check=True, timeout=60)
    reader, writer = os.pipe()
    forker = Forker()
    pid, pidfd = forker.fork(
        plan, Entry(init_pidfd=sandbox.init_pidfd, attach=(), close=(Fd(reader), sandbox.init_pidfd), cwd=job.cwd)
    )
    if pid == 0:
        with suppress(OSError):
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            os.execv("/bin/sh", ["sh", "-c", job.script])
        os._exit(126)
    os.close(writer)
    with open(reader, "rb") as file:
        output = file.read().decode("utf-8", "replace")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(pidfd)
    if trouble := forker.trouble():
        raise trouble
    assert not plan.layers or sandbox.scratch is not None
    found = [] if sandbox.scratch is None else native.changes(sandbox.scratch, plan.host_layers)
    changes = [f"{each.kind} {each.path}" for each in found]
    builder.done(sandbox)
    return Seen(status, output, sorted(changes), host.describe(), lacks, [layer.seen for layer in plan.layers])


def prepared(setup: str, job: Job) -> Seen:
    """Perform ``job`` in a mount namespace of its own, in which the shell script ``setup`` has run as (its) root."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    program = [sys.executable, "-m", "tests.kernel.in_sandbox", json.dumps(asdict(job))]
    done = run(
        [*unshare, "sh", "-c", f'set -e\n{setup}\nexec "$@"', "sh", *program],
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
        cwd=REPOSITORY,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stdout
    return Seen(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(perform(Job(**json.loads(sys.argv[1]))))))
