"""``python -m pytest_isolate doctor``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import pwd
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress

from pytest_isolate.session.doctor import findings, measure
from pytest_isolate.session.doctor.findings import CAPABILITIES, Finding
from pytest_isolate.session.doctor.show import Examination, as_data, as_text
from pytest_isolate.session.keeper import Keeper
from pytest_isolate.spec.errors import IsolateError, SpecError

_ABOUT = (
    "Tries what tests can be given on this machine, by building sandboxes and limits and taking them down again, and "
    "says what mends what does not work. The exit status is 0 if tests can be isolated here, 1 if not."
)
_STRICT = "exit with 1 unless all of these work, for CI: {}"


def run(arguments: Sequence[str], version: str) -> int:
    """Exit status: 0 all that is wanted works, 1 it does not, 2 wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    strict = tuple(key for given in options.strict for key in given.split(",") if key)
    if unknown := [key for key in strict if key not in _keys()]:
        parser.error(f"--strict: there is no capability {', '.join(unknown)}; choose among {', '.join(_keys())}.")
    try:
        found = _examine(options.isolate_cgroup, strict, version)
    except SpecError as error:
        parser.error(str(error))
    if options.json:
        sys.stdout.write(json.dumps(as_data(found), indent=2) + "\n")
    else:
        terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if terminal else None
        colour = terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        sys.stdout.write(as_text(found, width=width, colour=colour))
    return 1 if found.missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pytest_isolate doctor", description=_ABOUT)
    parser.add_argument("--json", action="store_true", help="print data for programs; docs hosts says what it has")
    parser.add_argument("--strict", metavar="KEY", nargs="+", default=[], help=_STRICT.format(", ".join(_keys())))
    parser.add_argument("--isolate-cgroup", metavar="/NAME", help="delegated cgroup to work under, as pytest's option")
    return parser


def _keys() -> list[str]:
    return [each.key for each in CAPABILITIES]


def _examine(cgroup: str | None, strict: tuple[str, ...], version: str) -> Examination:
    """Look at the host. :raises SpecError: ``cgroup`` can't be used."""
    root = os.geteuid() == 0
    machine = f"pytest-isolate-ns {version}, {_python()}, {_kernel()}, as {_user()}"
    try:
        with Keeper(cgroup=cgroup, degrade=True) as keeper:
            found, cost = _try_and_measure(keeper)
            in_force = keeper.describe()
    except SpecError:
        raise
    except (IsolateError, OSError) as error:
        lack = error if isinstance(error, IsolateError) else IsolateError(str(error))
        found, cost, in_force = findings.find_none(lack), None, "not available"
    return Examination(machine=machine, in_force=in_force, findings=tuple(found), cost=cost, strict=strict, root=root)


def _try_and_measure(keeper: Keeper) -> tuple[list[Finding], measure.Cost | None]:
    found = findings.examine(keeper.sandboxes)
    if any(each.key == "sandbox" and each.state != "works" for each in found):
        return found, None
    try:
        measure.run_one(keeper, findings.everything(found))
    except IsolateError as error:
        return findings.failed(found, error), None
    return found, measure.measure(keeper)


def _python() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}"


def _kernel() -> str:
    return f"{platform.system()} {platform.release()} {platform.machine()}"


def _user() -> str:
    with suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_name
    return f"uid {os.geteuid()}"
