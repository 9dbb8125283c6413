"""One reading of the command line and the ini file, which finds all that is wrong."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from typing import TypeVar, cast, get_args

import pytest

from pytest_isolate import image_names, values
from pytest_isolate.errors import SpecError
from pytest_isolate.keys import DEFAULT_KEYS, IMAGES, KEYS, flag
from pytest_isolate.layers import Layer, parse
from pytest_isolate.settings import Settings, Unsupported, honours_pytest_timeout, in_ini_file
from pytest_isolate.values import foreign_seconds

T = TypeVar("T")

#: Values of the ini file beside those of the keys.
_OTHER_VALUES = ("isolate_unsupported", "isolate_images_path", "isolate_fixtures_inside", "isolate_makereport_outside")


class Reading:
    """One reading of a Config, which gathers what is wrong."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._problems: list[str] = []
        self._images = os.path.join(config.rootpath, config.getini("isolate_images_path") or IMAGES)

    def settings(self) -> Settings:
        """:raises pytest.UsageError: if anything was wrong."""
        option = self._config.getoption
        self._unknown_ini_keys()
        unsupported = self._read("isolate_unsupported", lambda value: values.choice(value, get_args(Unsupported)))
        settings = Settings(
            everything=option("isolate_all"),
            off=option("isolate_off"),
            unsupported=cast("Unsupported", unsupported or "error"),
            usage_rows=10
            if (rows := self._read("isolate_usage", lambda value: values.count(value, 0), ini=False)) is None
            else rows,
            cgroup=self._read("isolate_cgroup", _cgroup, ini=False),
            images=self._images,
            fixtures_inside=tuple(self._config.getini("isolate_fixtures_inside")),
            makereport_outside=tuple(self._config.getini("isolate_makereport_outside")),
            # pytest-timeout's --timeout is on the command line, so it is stronger than our ini file.
            defaults=(self._command_line(), self._timeout_of_command_line(), self._ini(), self._timeout_of_ini()),
        )
        if self._problems:
            raise pytest.UsageError(*self._problems)
        return settings

    def _command_line(self) -> Layer:
        base = str(self._config.invocation_params.dir)
        given = {key: self._config.getoption(f"isolate_{key}") for key in DEFAULT_KEYS}
        places = {key: f"command line: {flag(key)}" for key in given}
        return self._layer({key: value for key, value in given.items() if value is not None}, places, base)

    def _ini(self) -> Layer:
        given = {key: self._config.getini(f"isolate_{key}") for key in DEFAULT_KEYS}
        places = {key: self._ini_place(f"isolate_{key}") for key in given}
        # What is not in the file is "", [] or None, by pytest's version and the value's type.
        return self._layer({key: value for key, value in given.items() if value}, places, str(self._config.rootpath))

    def _timeout_of_command_line(self) -> Layer:
        if not honours_pytest_timeout(self._config):
            return {}
        given = self._config.getoption("timeout", None)
        if given is not None:
            return self._foreign_timeout(given, "command line: --timeout")
        if (given := os.environ.get("PYTEST_TIMEOUT")) is not None:
            return self._foreign_timeout(given, "environment: PYTEST_TIMEOUT")
        return {}

    def _timeout_of_ini(self) -> Layer:
        given = self._config.getini("timeout") if honours_pytest_timeout(self._config) else None
        return self._foreign_timeout(given, self._ini_place("timeout")) if given else {}

    def _foreign_timeout(self, value: object, place: str) -> Layer:
        try:
            return {"timeout": parse("timeout", foreign_seconds(value), place)}
        except SpecError as error:
            self._problems.append(str(error))
            return {}

    def _layer(self, given: dict[str, object], places: dict[str, str], base: str) -> Layer:
        layer = {}
        for key, value in given.items():
            try:
                layer[key] = parse(key, value, places[key], base)
            except SpecError as error:
                self._problems.append(str(error))
                continue
            if problem := image_names.problem(layer[key].get("image"), self._images):
                self._problems.append(str(SpecError(places[key], problem)))
        return layer

    def _read(self, name: str, read: Callable[[object], T], *, ini: bool = True) -> T | None:
        """An option of ours that is no key of the contract; None if nobody wrote it, or wrote it wrong."""
        place, value = f"command line: --{name.replace('_', '-')}", self._config.getoption(name)
        if value is None and ini:
            place, value = self._ini_place(name), self._config.getini(name) or None
        try:
            return None if value is None else read(value)
        except ValueError as error:
            self._problems.append(f"{place}: {values.shown(value)}: {error}")
            return None

    def _ini_place(self, name: str) -> str:
        if any(each.split("=", 1)[0] == name for each in self._config.getoption("override_ini") or ()):
            return f"command line: -o {name}"
        return f"{self._config.inipath.name if self._config.inipath else 'ini file'}: {name}"

    def _unknown_ini_keys(self) -> None:
        """A misspelt ``isolate_memroy`` would leave a whole suite without its cap, and pytest only warns of it.

        Where pytest does not list the file's names, that warning is all there is.
        """
        ours = [*_OTHER_VALUES, *(f"isolate_{key}" for key in DEFAULT_KEYS)]
        for name in in_ini_file(self._config) or ():
            if not name.startswith("isolate_") or name in ours:
                continue
            try:
                self._config.getini(name)  # another plugin's, if it is known
            except ValueError:
                self._problems.append(f"{self._ini_place(name)}: there is no such value; {_instead_of_ini(name, ours)}")


def _instead_of_ini(name: str, ours: list[str]) -> str:
    key = name.removeprefix("isolate_")
    if key in KEYS:  # but not allowed
        return f"{key} can be written in the marker only."
    if key in ("mem_limit", "cpu_limit"):
        instead = "isolate_memory" if key == "mem_limit" else "isolate_timeout or isolate_cpus"
        return f"it belongs to PyPI's pytest-isolate, another package; write {instead}."
    return f"allowed are {', '.join(ours)}.{values.nearest(name, ours)}"


def _cgroup(value: object) -> str:
    path = posixpath.normpath(str(value))
    if path.startswith("/sys/fs/cgroup"):
        rest = path.removeprefix("/sys/fs/cgroup") or "/"
        raise ValueError(f"write the path from the cgroup root, not from the file system's: {rest}.")
    if not path.startswith("/") or ".." in str(value).split("/"):
        raise ValueError("allowed is an absolute path from the cgroup root, such as /user.slice/tests.")
    return path
