"""Run Python code in a kernel sandbox of its own and say what it used: the library's front, without pytest.

>>> from pytest_isolate import Limits, Spec, run
>>> outcome = run(Spec(limits=Limits(memory=50 << 20)), lambda: sum(range(10)))
>>> outcome.value, outcome.failure()
(45, None)

Importing this package loads neither pytest nor the C core; that happens at the first use.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_isolate.sandbox.outcome import Change, Outcome, Usage
    from pytest_isolate.session.cluster import Network
    from pytest_isolate.session.keeper import Keeper
    from pytest_isolate.session.node import Node
    from pytest_isolate.spec.errors import IsolateError, SetupError, SpecError, UnsupportedError
    from pytest_isolate.spec.spec import Limits, Spec
    from pytest_isolate.testing import Isolated

# pytest rewrites the asserts of all modules that come with a plugin. Ours have none, and each start would pay 4 ms, or
# 20 where no bytecode is written (PYTHONDONTWRITEBYTECODE, as in many images): there they are compiled anew. There is
# no public way out, as a module with PYTEST_DONT_REWRITE in its docstring is compiled all the same.
for _finder in sys.meta_path:
    getattr(_finder, "_must_rewrite", set()).discard("pytest_isolate")

__all__ = [
    "Change",
    "IsolateError",
    "Isolated",
    "Keeper",
    "Limits",
    "Network",
    "Node",
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
    from pytest_isolate.session.keeper import Keeper  # noqa: PLC0415 - loads the C core

    with Keeper() as own:
        return own.run(spec, lambda send: send(payload()))


#: Where each public name is. The modules are loaded when it is first named (PEP 562), not at each start of pytest.
_HOMES = {
    **dict.fromkeys(("IsolateError", "SetupError", "SpecError", "UnsupportedError"), "spec.errors"),
    **dict.fromkeys(("Change", "Outcome", "Usage"), "sandbox.outcome"),
    **dict.fromkeys(("Limits", "Spec"), "spec.spec"),
    "Isolated": "testing",
    "Keeper": "session.keeper",
    "Network": "session.cluster",
    "Node": "session.node",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
