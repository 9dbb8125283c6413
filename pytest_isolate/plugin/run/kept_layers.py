"""``--isolate-keep``: which tests' writable layers are kept. Imported only with the option."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytest_isolate.linux.calls import calls
from pytest_isolate.plugin import messages
from pytest_isolate.session.kept.keep import keep
from pytest_isolate.session.kept.store import Bounds, KeptStore
from pytest_isolate.session.kept.surroundings import Surroundings, changed_environment
from pytest_isolate.spec.errors import SetupError

if TYPE_CHECKING:
    from pytest_isolate.plugin.config.settings import Settings
    from pytest_isolate.sandbox.outcome import Outcome
    from pytest_isolate.session.held import Held
    from pytest_isolate.spec.spec import Spec

    #: Keeps the layer of a run that has ended; its outcome then.
    KeepLayer = Callable[[Held, Outcome], Outcome]


class KeptLayers:
    """Keeps layers of one session's tests. What earlier sessions have kept beyond the bounds goes at once."""

    def __init__(self, settings: Settings, places: Callable[[], tuple[str, ...]]) -> None:
        """:param places: folders that tests see and write to, also with an image."""
        self._settings, self._places = settings, places
        self._bounds = Bounds(number=settings.keep_number, size=settings.keep_size)
        self._store = KeptStore()
        with suppress(OSError, SetupError):  # the next session does, and what adds a layer says why it cannot
            self._store.sweep(self._bounds)

    def keep(self, test: str, held: Held, outcome: Outcome) -> Outcome:
        """Keep the layer of a run that has ended, if it is one of those; the outcome says where it is."""
        failed = has_failed(outcome)
        if not failed and self._settings.keep != "all":
            return outcome
        return keep(
            held, outcome, store=self._store, bounds=self._bounds, test=test, failed=failed, around=self._surroundings
        )

    def _surroundings(self, spec: Spec) -> Surroundings:
        return Surroundings(
            spec=spec,
            cwd=calls.getcwd(),
            places=self._places(),
            images=self._settings.images,
            cgroup=self._settings.cgroup,
            degrade=self._settings.unsupported == "degrade",
            env=changed_environment(os.environ),
        )


def has_failed(outcome: Outcome) -> bool:
    """Whether the test will be reported as failed, as far as it is known in its sandbox's life."""
    leaked = bool(outcome.leaks) and outcome.spec.leaks == "fail"
    return leaked or outcome.failure() is not None or any(map(_tells_failure, outcome.messages))


def _tells_failure(message: Any) -> bool:
    try:
        kind, data = message
        return bool(kind == messages.BROKEN or (kind == messages.REPORT and data["outcome"] == "failed"))
    except (TypeError, ValueError, KeyError):  # forged by the test
        return True
