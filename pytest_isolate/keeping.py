"""The keeper of a pytest session, made when it is first needed: by xdist's and the command line's words."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from pytest_isolate import options, testing
from pytest_isolate.cgroups.names import session_name
from pytest_isolate.errors import IsolateError, SetupError, SpecError
from pytest_isolate.listeners import COOKIE
from pytest_isolate.session import Keeper

if TYPE_CHECKING:
    from pytest_isolate.spec import Spec

#: Key of an xdist worker's ``workerinput``: the name of the session's cgroup.
SESSION_INPUT = "isolate_session"


class Keeping:
    """The keeper, or why there is none."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._pid = os.getpid()

    @cached_property
    def keeper(self) -> Keeper | IsolateError:
        """The keeper, or why there is none. :raises pytest.UsageError: ``--isolate-cgroup`` can't be used."""
        worker: dict[str, Any] | None = getattr(self._config, "workerinput", None)
        settings, said = self._config.stash[options.SETTINGS], worker or {}
        session = said.get(SESSION_INPUT) or session_name()
        os.environ[COOKIE] = session
        opened = self._config.stash[testing.OPENED]
        try:
            return Keeper(
                cgroup=settings.cgroup,
                worker=said.get("workerid", "main"),
                session=session,
                degrade=settings.unsupported == "degrade",
                places=self._places(),
                images=settings.images,
                opened=opened,
            )
        except SpecError as error:  # of --isolate-cgroup
            if worker is not None:  # that raises counts as crashed, and the user does not see why
                return error
            raise pytest.UsageError(str(error)) from error
        except IsolateError as error:
            return error
        except OSError as error:
            return SetupError.of("prepare sandboxes", error)

    def _places(self) -> tuple[str, ...]:
        """Where tests write, and are found with an image under them: the project, and pytest's temporary folder."""
        places = [str(self._config.rootpath), str(self._config.invocation_params.dir)]
        if hasattr(self._config, "_tmp_path_factory"):  # private: no public way in 8.0 to 9.2
            places.append(str(self._config._tmp_path_factory.getbasetemp()))
        return tuple(places)

    def get(self) -> Keeper:
        """The keeper. :raises IsolateError: there is none."""
        if not isinstance(self.keeper, Keeper):
            raise self.keeper
        return self.keeper

    def lack(self, spec: Spec) -> IsolateError | None:
        """Why ``spec`` cannot be run here, if it cannot."""
        try:
            self.get().check(spec)
        except IsolateError as error:
            return error
        return None

    def look_again(self) -> None:
        """What this session's processes serve may have changed."""
        if (keeper := self._made()) is not None:
            keeper.look_again()

    def close(self) -> None:
        """End the keeper, if there is one. In a fork, nothing."""
        if os.getpid() == self._pid and (keeper := self._made()) is not None:
            keeper.close()

    def _made(self) -> Keeper | None:
        keeper = vars(self).get("keeper")
        return keeper if isinstance(keeper, Keeper) else None
