"""One reading of the command line and the ini file, which finds all that is wrong."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar, cast, get_args

import pytest

from pytest_isolate.linux import files
from pytest_isolate.plugin.config import pytest_timeout
from pytest_isolate.plugin.config.session_options import SESSION_KEYS
from pytest_isolate.plugin.config.settings import (
    STALL_TIMEOUT,
    Settings,
    Unsupported,
    in_ini_file,
    is_in_github_actions,
)
from pytest_isolate.spec import device_paths, image_names, messages, sizes, values
from pytest_isolate.spec.errors import SpecError
from pytest_isolate.spec.key_values import KeyValues, parse
from pytest_isolate.spec.keys import DEFAULT_KEYS, IMAGES, KEEP_NUMBER, KEEP_SIZE, KEYS, flag

if TYPE_CHECKING:
    from pytest_isolate.plugin.config.baseline_options import BaselineOptions

T = TypeVar("T")
#: Values of the ini file beside those of the keys.
_OTHER_VALUES = (
    "isolate_all",
    "isolate_usage",
    "isolate_report",
    "isolate_baseline",
    "isolate_baseline_fail",
    "isolate_baseline_noise",
    "isolate_github",
    "isolate_keep",
    "isolate_keep_number",
    "isolate_keep_size",
    "isolate_unsupported",
    "isolate_images_path",
    "isolate_jobs",
    "isolate_immortal_heap",
    "isolate_stall_timeout",
    "isolate_fixtures_inside",
    "isolate_makereport_outside",
    "isolate_session",
    *(f"isolate_session_{key}" for key in SESSION_KEYS),
)


class ConfigReader:
    """Reads a Config once, and gathers what is wrong."""

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
            everything=option("isolate_all") or self._ini_flag("isolate_all", default=False),
            off=option("isolate_off"),
            unsupported=cast("Unsupported", unsupported or "error"),
            usage_rows=self._read("isolate_usage", lambda value: values.count(value, 0)),
            reports=self._reports(),
            baseline=self._baseline(),
            github=self._read("isolate_github", lambda value: values.choice(value, ("auto", "off"))) != "off"
            and is_in_github_actions(),
            keep=self._read("isolate_keep", lambda value: values.choice(value, ("failed", "all"))),
            keep_number=self._read("isolate_keep_number", values.count) or KEEP_NUMBER,
            keep_size=self._read("isolate_keep_size", lambda value: sizes.size(value, least=1)) or KEEP_SIZE,
            cgroup=self._read("isolate_cgroup", _cgroup, ini=False),
            images=self._images,
            stall_timeout=STALL_TIMEOUT
            if (seconds := self._read("isolate_stall_timeout", values.seconds_or_never)) is None
            else seconds,
            jobs=(jobs := self._read("isolate_jobs", values.jobs)) or None,
            jobs_asked=jobs is not None,
            immortal_heap=self._ini_flag("isolate_immortal_heap", default=True)
            and not option("isolate_no_immortal_heap"),
            fixtures_inside=tuple(self._config.getini("isolate_fixtures_inside")),
            makereport_outside=tuple(self._config.getini("isolate_makereport_outside")),
            # pytest-timeout's --timeout is on the command line, so it is stronger than our ini file.
            defaults=(self._command_line(), self._timeout_of_command_line(), self._ini(), self._timeout_of_ini()),
            asked=tuple(f"{flag(key)}={_written(value)}" for key, value in self._given_by_option().items()),
            asked_in_ini=tuple(f"isolate_{key} = {_written(value)}" for key, value in self._given_in_ini().items()),
        )
        if self._problems:
            raise pytest.UsageError(*self._problems)
        return settings

    def _command_line(self) -> KeyValues:
        base = str(self._config.invocation_params.dir)
        given = self._given_by_option()
        return self._layer(given, {key: f"command line: {flag(key)}" for key in given}, base)

    def _given_by_option(self) -> dict[str, object]:
        given = {key: self._config.getoption(f"isolate_{key}") for key in DEFAULT_KEYS}
        return {key: value for key, value in given.items() if value is not None}

    def _ini(self) -> KeyValues:
        given = self._given_in_ini()
        places = {key: self._ini_place(f"isolate_{key}") for key in given}
        return self._layer(given, places, str(self._config.rootpath))

    def _given_in_ini(self) -> dict[str, object]:
        given = {key: self._config.getini(f"isolate_{key}") for key in DEFAULT_KEYS}
        # What is not in the file is "", [] or None, by pytest's version and the value's type.
        return {key: value for key, value in given.items() if value}

    def _timeout_of_command_line(self) -> KeyValues:
        if not pytest_timeout.is_loaded(self._config):
            return {}
        given = self._config.getoption("timeout", None)
        if given is not None:
            return self._foreign_timeout(given, "command line: --timeout")
        if (given := os.environ.get("PYTEST_TIMEOUT")) is not None:
            return self._foreign_timeout(given, "environment: PYTEST_TIMEOUT")
        return {}

    def _timeout_of_ini(self) -> KeyValues:
        given = self._config.getini("timeout") if pytest_timeout.is_loaded(self._config) else None
        return self._foreign_timeout(given, self._ini_place("timeout")) if given else {}

    def _foreign_timeout(self, value: object, place: str) -> KeyValues:
        try:
            return pytest_timeout.read(value, place)
        except SpecError as error:
            self._problems.append(str(error))
            return {}

    def _layer(self, given: dict[str, object], places: dict[str, str], base: str) -> KeyValues:
        layer = {}
        for key, value in given.items():
            try:
                layer[key] = parse(key, value, places[key], base)
            except SpecError as error:
                self._problems.append(str(error))
                continue
            if problem := device_paths.problem(layer[key].get("devices")):
                self._problems.append(str(SpecError(places[key], problem)))
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
            self._problems.append(f"{place}: {messages.shown(value)}: {error}")
            return None

    def _reports(self) -> tuple[str, ...]:
        """Paths on the command line count from where the user is, in the ini file from pytest's root directory."""
        base, place = str(self._config.invocation_params.dir), "command line: --isolate-report"
        if not (given := self._config.getoption("isolate_report")):
            given = self._config.getini("isolate_report")
            base, place = str(self._config.rootpath), self._ini_place("isolate_report")
        paths = [os.path.join(base, os.path.expanduser(path)) for path in given]
        for path in paths:
            if not path.endswith((".html", ".json")) or os.path.isdir(path):
                self._problems.append(f"{place}: {path}: allowed is a file whose name ends in .html or .json.")
        return tuple(map(os.path.normpath, paths))

    def _baseline(self) -> BaselineOptions | None:
        option, ini = self._config.getoption, self._config.getini
        fails = option("isolate_baseline_fail") or self._ini_flag("isolate_baseline_fail", default=False)
        names = ("isolate_baseline", "isolate_baseline_noise")
        if not (fails or option("isolate_baseline_update") or any(option(name) or ini(name) for name in names)):
            return None
        from pytest_isolate.plugin.config import baseline_options  # noqa: PLC0415 - only if it is asked for

        return baseline_options.read(self._config, self._ini_place, self._problems, fails=fails)

    def _ini_flag(self, name: str, *, default: bool) -> bool:
        try:
            return bool(self._config.getini(name))
        except (pytest.UsageError, TypeError, ValueError) as error:  # by pytest's version, and the kind of file
            self._problems.append(f"{self._ini_place(name)}: {error}. Allowed are true and false.")
            return default

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


def _written(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _instead_of_ini(name: str, ours: list[str]) -> str:
    key = name.removeprefix("isolate_")
    if key in KEYS:  # but not allowed
        return f"{key} can be written in the marker only."
    if key in ("mem_limit", "cpu_limit"):
        instead = "isolate_memory" if key == "mem_limit" else "isolate_timeout or isolate_cpus"
        return f"it belongs to PyPI's pytest-isolate, another package; write {instead}."
    return f"allowed are {', '.join(ours)}.{messages.nearest(name, ours)}"


def _cgroup(value: object) -> str:
    path = posixpath.normpath(str(value))
    if (rest := _below_cgroup_mount(path)) is not None:
        raise ValueError(f"write the path from the cgroup root, not from the file system's: {rest}.")
    if not path.startswith("/") or ".." in str(value).split("/"):
        raise ValueError("allowed is an absolute path from the cgroup root, such as /user.slice/tests.")
    return path


def _below_cgroup_mount(path: str) -> str | None:
    """``path`` from where a cgroup hierarchy is mounted, on v1 one for each controller; None if it is not below any."""
    mounts = ["/sys/fs/cgroup"]
    with suppress(OSError):
        lines = [line.split(" ") for line in files.read_text("/proc/self/mounts").split("\n") if line]
        mounts += [fields[1] for fields in lines if fields[2] in ("cgroup", "cgroup2")]
    # Names of controllers can be links, /sys/fs/cgroup/cpu to cpu,cpuacct.
    below = [
        each.removeprefix(mount)
        for each in (path, os.path.realpath(path))
        for mount in mounts
        if _is_below(each, mount)
    ]
    return min(below, key=len) or "/" if below else None


def _is_below(path: str, mount: str) -> bool:
    return path == mount or path.startswith(f"{mount}/")
