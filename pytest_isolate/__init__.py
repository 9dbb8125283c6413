"""Run Python code in a kernel sandbox of its own and say what it used: the library's front, without pytest.

>>> from pytest_isolate import Limits, Spec, run
>>> outcome = run(Spec(limits=Limits(memory=50 << 20)), lambda: sum(range(10)))
>>> outcome.value, outcome.failure()
(45, None)

Importing this package loads neither pytest nor the C core; that happens at the first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_isolate.errors import IsolateError, SetupError, SpecError, UnsupportedError
from pytest_isolate.outcome import Change, Outcome, Usage
from pytest_isolate.spec import Limits, Spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_isolate.session import Keeper

__all__ = [
    "Change",
    "IsolateError",
    "Keeper",
    "Limits",
    "Outcome",
    "SetupError",
    "Spec",
    "SpecError",
    "UnsupportedError",
    "Usage",
    "run",
]


def run(spec: Spec, payload: Callable[[], object], *, keeper: Keeper | None = None) -> Outcome:
    """Call ``payload`` in a fork of this process, in a fresh sandbox, and wait for its end.

    :param payload: its return value must be plain data (what JSON can hold) and is ``Outcome.value``; the
        traceback of an exception is ``Outcome.error``. What it changes, in memory or on disk, is gone afterwards.
    :param keeper: holds a builder and sandboxes that stand ready, for many runs; None makes one for this run
        alone, which takes some 50 ms.
    :raises UnsupportedError: the host can't enforce ``spec``. :raises SetupError: the sandbox could not be built.
    """
    if keeper is not None:
        return keeper.run(spec, lambda send: send(payload()))
    from pytest_isolate.session import Keeper  # noqa: PLC0415 - loads the C core

    with Keeper() as own:
        return own.run(spec, lambda send: send(payload()))


def __getattr__(name: str) -> object:
    """``Keeper`` is loaded with the C core when it is first named (PEP 562)."""
    if name == "Keeper":
        from pytest_isolate.session import Keeper  # noqa: PLC0415

        return Keeper
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
