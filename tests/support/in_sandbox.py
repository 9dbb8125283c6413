"""Runs a shell script in a sandbox planned for this host, without pytest, cgroups or keeper.

As a program it takes a :class:`Job` in JSON, so that a test can put it into a mount namespace that it has prepared.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from subprocess import PIPE, STDOUT, run
from typing import Any

from pytest_isolate.linux.flags import Clone
from pytest_isolate.linux.native import Fd
from pytest_isolate.plan.host import Host
from pytest_isolate.plan.plan import Plan
from pytest_isolate.plan.planner import plan_for
from pytest_isolate.sandbox import changed_files
from pytest_isolate.sandbox.builder import Builder, Sandbox
from pytest_isolate.sandbox.forker import Entry, Forker
from pytest_isolate.sandbox.probe.probe import probe
from pytest_isolate.sandbox.probe.trees import Attempt, without_removed
from pytest_isolate.spec.errors import SetupError
from pytest_isolate.spec.spec import Spec

REPOSITORY = Path(__file__).parent.parent.parent
ROOT = os.geteuid() == 0


@dataclass
class Job:
    script: str = "true"
    keys: dict[str, Any] = field(default_factory=dict)  #: of the contract
    layout: str = "root"  #: "rootless": for root, too, as if the mounts were not his to handle
    cwd: str = "/"
    important: Sequence[str] = ()
    scratch: str = ""  #: folder on disk for the writable layers, as where a tmpfs cannot hold them
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
        host, plan, sandbox = _build(job, builder)
        lacks = [f"{lack.what} {lack.target}: {lack.reason}. {lack.remedy}" for lack in host.lacks]
        if sandbox is None:
            return Seen(-1, "", [], host.describe(), lacks, [])
        status, output, changes = _run(job, plan, sandbox)
        builder.done(sandbox)
        return Seen(status, output, changes, host.describe(), lacks, [layer.seen for layer in plan.layers])
    finally:
        builder.close()


@contextmanager
def standing(layout: str) -> Iterator[int]:
    """A sandbox that stands ready: its PID 1, as it is called outside."""
    builder = Builder()
    try:
        _, _, sandbox = _build(Job(layout=layout), builder)
        assert sandbox is not None
        yield sandbox.init_pid
    finally:
        builder.close()


def _build(job: Job, builder: Builder) -> tuple[Host, Plan, Sandbox | None]:
    """A sandbox, as the keeper builds it, and for whom; None: the host has none."""
    host = probe(attempting(builder, job.layout), important=job.important)
    if job.scratch:
        host = host._replace(scratch=job.scratch)
    while True:
        plan = plan_for(Spec.of(**job.keys), host)
        if not host.sandbox:
            return host, plan, None
        try:
            return host, plan, builder.get(builder.add(plan))
        except SetupError as error:
            if (smaller := without_removed(host, error)) is None:
                raise
            host = smaller


def _run(job: Job, plan: Plan, sandbox: Sandbox) -> tuple[int, str, list[str]]:
    """The script's status, output and changes."""
    if job.meanwhile:
        run(["sh", "-ec", job.meanwhile], check=True, timeout=60)
    reader, writer = os.pipe()
    forker = Forker()
    forked = forker.fork(
        plan, Entry(init_pidfd=sandbox.init_pidfd, attach=(), close=(Fd(reader), sandbox.init_pidfd), cwd=job.cwd)
    )
    if forked.pid == 0:
        with suppress(OSError):
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            os.execv("/bin/sh", ["sh", "-c", job.script])
        os._exit(126)
    os.close(writer)
    with open(reader, "rb") as file:
        output = file.read().decode("utf-8", "replace")
    status = os.waitstatus_to_exitcode(os.waitpid(forked.pid, 0)[1])
    os.close(forked.pidfd)
    if trouble := forker.trouble():
        raise trouble
    assert not plan.layers or sandbox.scratch is not None
    found = [] if sandbox.scratch is None else changed_files.changes(sandbox.scratch, plan.host_layers)
    return status, output, sorted(f"{each.kind} {each.path}" for each in found)


def prepared(setup: str, job: Job) -> Seen:
    """Perform ``job`` in a mount namespace of its own, in which the shell script ``setup`` has run as (its) root."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    program = [sys.executable, "-m", "tests.support.in_sandbox", json.dumps(asdict(job))]
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


def sh(
    script: str, *, layout: str, cwd: str = "/", important: tuple[str, ...] = (), scratch: str = "", **keys: Any
) -> Seen:
    return perform(Job(script=script, keys=keys, layout=layout, cwd=cwd, important=important, scratch=scratch))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(perform(Job(**json.loads(sys.argv[1]))))))
