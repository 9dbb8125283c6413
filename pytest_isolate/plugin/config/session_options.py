"""``--isolate-session`` and what goes with it, read before the first conftest.py file is loaded."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

import pytest

from pytest_isolate.spec.errors import SpecError
from pytest_isolate.spec.keys import IN_SESSION, KEYS, flag

if TYPE_CHECKING:
    from pytest_isolate.spec.key_values import KeyValues
    from pytest_isolate.spec.spec import Spec

#: Keys of the contract that hold for the whole session's sandbox as well: ``--isolate-session-memory``.
SESSION_KEYS = ("network", "memory", "swap", "cpus", "cpuset", "pids", "disk", "writable", "host_ports")
_NETWORKS = ("none", "nat", "host")  # it is on no bridge: what connects sandboxes is inside
#: Where what a key means for a test is not what it means for the session.
_MEANINGS = {
    "network": '"none", a network of its own with loopback only (default); "nat", with a way to the outside; or "host"',
    "writable": "paths where what the run writes stays",
    "host_ports": "TCP ports of the host's loopback to reach, for fixtures and for tests that have them in host_ports",
}
_SESSION = "run pytest itself in a sandbox, from the first conftest.py file on, and isolated tests in theirs above it"


class Entered:
    """What a pytest knows that has gone on in a sandbox."""

    def __init__(self, described: str, kept: int, writable: tuple[str, ...]) -> None:
        self.described = described  #: what is in force
        self.kept = kept  #: descriptor of the file that says what is to stay of the run's changes
        self.writable = writable  #: what is bound through


#: Of such a pytest, in ``config.stash``.
ENTERED: pytest.StashKey[Entered] = pytest.StashKey()


def add_options(parser: pytest.Parser, group: pytest.OptionGroup) -> None:
    """Register them, as plain text."""
    group.addoption("--isolate-session", action="store_true", help=_SESSION)
    parser.addini("isolate_session", f"{_SESSION} (default: false)", type="bool", default=False)
    for key in SESSION_KEYS:
        about = f"of the sandbox of --isolate-session: {_MEANINGS.get(key, KEYS[key].meaning)}"
        if KEYS[key].repeated:
            group.addoption(
                _flag(key), action="append", metavar=KEYS[key].metavar, dest=f"isolate_session_{key}", help=about
            )
            parser.addini(f"isolate_session_{key}", about, type="linelist")
        else:
            group.addoption(_flag(key), metavar=KEYS[key].metavar, help=about)
            parser.addini(f"isolate_session_{key}", about)


def _flag(key: str) -> str:
    return flag(key).replace("--isolate-", "--isolate-session-")


def is_wanted(config: pytest.Config, given: argparse.Namespace) -> bool:
    """Whether pytest is to go on in a sandbox.

    :param given: the command line, as far as it is known before the first conftest.py file.
    """
    if given.isolate_off or given.help or given.version:
        return False
    return bool(given.isolate_session) or bool(config.getini("isolate_session"))


def is_inside() -> bool:
    """Whether this pytest, or one that has started it, has gone on in a sandbox.

    The variable alone says nothing: it may be left over in an environment, or written by hand.
    """
    if IN_SESSION not in os.environ:
        return False
    from pytest_isolate.session.in_session import has_mark  # noqa: PLC0415 - most runs have no such sandbox

    return has_mark()


def describe(config: pytest.Config) -> str | None:
    """For pytest's header; None if there is no such sandbox."""
    if (entered := config.stash.get(ENTERED, None)) is not None:
        return f"isolate: {entered.described}"
    if is_inside() and is_wanted(config, config.option):
        return "isolate: session in the sandbox of the pytest that has started this one"
    return None


def read_spec(config: pytest.Config, given: argparse.Namespace) -> Spec:
    """What the sandbox is to be. :raises pytest.UsageError: with one line per wrong place."""
    from pytest_isolate.spec.key_values import parse  # noqa: PLC0415 - most runs have no such sandbox
    from pytest_isolate.spec.spec import Spec, conflict  # noqa: PLC0415

    problems: list[str] = []

    def layer(values: dict[str, object], place: str, base: str) -> KeyValues:
        found = {}
        for key, value in values.items():
            if key == "network" and value not in _NETWORKS:
                where = place.format(key=key, flag=_flag(key))
                problems.append(f"{where}: {value!r}: allowed are {', '.join(_NETWORKS)}.")
                continue
            try:
                found[key] = parse(key, value, place.format(key=key, flag=_flag(key)), base)
            except SpecError as error:
                problems.append(str(error))
        return found

    options = layer(_given(given), "command line: {flag}", str(config.invocation_params.dir))
    ini = layer(_in_ini(config), "ini file: isolate_session_{key}", str(config.rootpath))
    spec = Spec.merge([options, ini])
    if problem := conflict(spec):
        problems.append(f"--isolate-session: {problem[1]}")
    if problems:
        raise pytest.UsageError(*problems)
    return spec


def check_wanted(config: pytest.Config) -> None:
    """See that nobody limits a sandbox that there is not. :raises pytest.UsageError: with what was written."""
    written = [_flag(key) for key in _given(config.option)]
    if written and not (config.option.isolate_off or is_wanted(config, config.option)):
        raise pytest.UsageError(f"{', '.join(written)}: there is no such sandbox without --isolate-session.")


def _given(options: argparse.Namespace) -> dict[str, object]:
    given = {key: getattr(options, f"isolate_session_{key}") for key in SESSION_KEYS}
    return {key: value for key, value in given.items() if value is not None}


def _in_ini(config: pytest.Config) -> dict[str, object]:
    given = {key: config.getini(f"isolate_session_{key}") for key in SESSION_KEYS}
    return {key: value for key, value in given.items() if value}
