"""``ISOLATE_DEBUG=plan``: shows each Plan, and how far each sandbox came. For those who change this package."""

from __future__ import annotations

import errno
import os
import sys

from pytest_isolate.plan.operations import Op
from pytest_isolate.plan.plan import Plan

#: Asked once: the environment of a session does not change.
WANTED = os.environ.get("ISOLATE_DEBUG") == "plan"


def show_plan(number: int, plan: Plan) -> None:
    """Namespaces, cgroup files and operations of the builder's Plan ``number``."""
    _show(f"plan {number}: namespaces {plan.namespaces!r}; joined by the test {plan.join!r}")
    for directory in plan.cgroups:
        _show(f"  cgroup {'' if directory.shared else 'below '}{directory.parent}: {dict(directory.files)}")
    for place, operation in enumerate(plan.ops):
        _show(f"  {place:3} {_describe(operation)}")


def show_built(number: int, name: str) -> None:
    """A sandbox of Plan ``number`` stands; its operations are all done."""
    _show(f"plan {number}: {name} stands, all operations are done")


def show_failure(plan: Plan, place: int, code: int, target: str) -> None:
    """Operation ``place`` of ``plan`` failed, those before it are done; a negative one is a step beside the list."""
    inside = 0 <= place < len(plan.ops)
    at = f"operation {place}, {_describe(plan.ops[place])}" if inside else f"no operation ({place})"
    _show(f"FAILED at {at}: {errno.errorcode.get(code, code)} on {target or '-'}")


def _describe(operation: Op) -> str:
    words = [operation.step.name.lower(), *filter(None, (operation.kind, operation.source))]
    if operation.target:
        words.append(f"-> {operation.target}")
    if operation.data:
        words.append(f"({operation.data})")
    return " ".join(words) + (f" [{operation.number:#x}]" if operation.number else "")


def _show(line: str) -> None:
    sys.stderr.write(f"isolate: {line}\n")
