"""The keeper of a pytest session, made when it is first needed, as the command line and xdist say."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING

import pytest

from pytest_isolate.linux.calls import calls
from pytest_isolate.plugin import fixtures
from pytest_isolate.plugin.config import options, session_options
from pytest_isolate.plugin.integrations import rerunfailures, xdist
from pytest_isolate.plugin.run import lasting
from pytest_isolate.session import names
from pytest_isolate.session.keeper import Keeper
from pytest_isolate.spec.errors import IsolateError, SetupError, SpecError

if TYPE_CHECKING:
    from pytest_isolate.spec.spec import Spec


class SessionKeeper:
    """The keeper, or why there is none."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._pid = calls.getpid()
        self._closing = ExitStack()

    @cached_property
    def keeper(self) -> Keeper | IsolateError:
        """The keeper, or why there is none. :raises pytest.UsageError: ``--isolate-cgroup`` can't be used."""
        settings = self._config.stash[options.SETTINGS]
        session = xdist.session_name(self._config) or names.new_name()
        worker = xdist.worker_name(self._config) or names.new_worker(session)
        self._closing.callback(names.mark_descendants(session))
        opened = self._config.stash[fixtures.OPEN_PORTS]
        try:
            return Keeper(
                # A session sandbox is in a group below it, and limits hold for what is below that.
                cgroup=None if session_options.is_inside() else settings.cgroup,
                worker=worker,
                session=session,
                degrade=settings.unsupported == "degrade",
                places=self.folders(),
                images=settings.images,
                opened=opened,
                hidden=rerunfailures.ports(self._config),
                stall_timeout=settings.stall_timeout,
                output=self._output(),
                immortal=settings.immortal_heap,
                lasting=partial(lasting.lasting, self._config),
            )
        except SpecError as error:  # of --isolate-cgroup
            if xdist.is_worker(self._config):  # one that raises counts as crashed, and the user does not see why
                return error
            raise pytest.UsageError(str(error)) from error
        except IsolateError as error:
            return error
        except OSError as error:
            return SetupError.of("prepare sandboxes", error)

    def _output(self) -> int:
        """Where pytest's own standard error is, though output is captured: faulthandler's plugin has a copy of it.

        Private: ``_pytest.faulthandler.fault_handler_stderr_fd_key``, 8.0 to 9.2.
        """
        plugin = self._config.pluginmanager.getplugin("faulthandler")
        return 2 if plugin is None else self._config.stash.get(plugin.fault_handler_stderr_fd_key, 2)

    def folders(self) -> tuple[str, ...]:
        """The folders that tests see and write to with an image, too: the project, and pytest's temporary folder."""
        folders = [str(self._config.rootpath), str(self._config.invocation_params.dir)]
        if hasattr(self._config, "_tmp_path_factory"):  # private: no public way in 8.0 to 9.2
            with suppress(OSError):  # it belongs to someone else, say: tests that use it are told by its fixture
                folders.append(str(self._config._tmp_path_factory.getbasetemp()))
        return tuple(folders)

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
        """Look anew at what this session's processes serve, which may have changed."""
        if (keeper := self._existing()) is not None:
            keeper.look_again()

    def close(self) -> None:
        """End the keeper, if there is one. In a fork, nothing."""
        if calls.getpid() == self._pid and (keeper := self._existing()) is not None:
            keeper.close()
            self._closing.close()

    def _existing(self) -> Keeper | None:
        keeper = vars(self).get("keeper")
        return keeper if isinstance(keeper, Keeper) else None
