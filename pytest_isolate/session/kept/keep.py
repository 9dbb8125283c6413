"""Keeps the writable layer of a run that has ended, before its sandbox is thrown away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from pytest_isolate.linux.native import Fd
from pytest_isolate.sandbox.outcome import Change, Outcome
from pytest_isolate.session.held import Held
from pytest_isolate.session.kept import layer_copy
from pytest_isolate.session.kept.store import Bounds, KeptLayer, KeptStore, NotKeptError
from pytest_isolate.session.kept.surroundings import Surroundings
from pytest_isolate.spec.errors import SetupError
from pytest_isolate.spec.spec import Spec

Around = Callable[[Spec], Surroundings]

_COMMANDS = "python -m pytest_isolate kept diff {0}\npython -m pytest_isolate kept enter {0}"


def keep(
    held: Held, outcome: Outcome, *, store: KeptStore, bounds: Bounds, test: str, failed: bool, around: Around
) -> Outcome:
    """``outcome``, with commands that show the kept layer, or why none is kept. Nothing was changed: nothing.

    :param around: makes what the run had beside its Spec.
    """
    changes, scratch = outcome.usage.changes, held.sandbox.scratch
    if scratch is None or changes is None:
        return replace(outcome, kept="The layer is not kept: the sandbox has none.")
    if not changes:
        return outcome
    layer = describe(
        held, scratch, changes, test=test, result="failed" if failed else "passed", around=around(held.spec)
    )
    try:
        name = store.add(layer, bounds, partial(layer_copy.copy, scratch, held.plan.layers, changes))
    except (NotKeptError, SetupError, OSError) as error:
        return replace(outcome, kept=f"The layer is not kept: {error}")
    return replace(outcome, kept=_COMMANDS.format(name))


def describe(
    held: Held, scratch: Fd, changes: Sequence[Change], *, test: str, result: str, around: Surroundings
) -> KeptLayer:
    """What is to be kept of a sandbox, without its files. :param scratch: the sandbox's."""
    layers = held.plan.layers
    return KeptLayer(
        test=test,
        result=result,
        image=held.spec.image,
        size=layer_copy.measure(scratch, layers, changes),
        changes=tuple((change.kind, change.path) for change in changes),
        lost=(),
        layers=tuple((each.seen, tuple(low for low in each.lowers if low.startswith("/"))) for each in layers),
        surroundings=around,
    )
