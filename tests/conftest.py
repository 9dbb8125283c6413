"""Capabilities of the host: a test says what it needs, is skipped where that is lacking, or fails if it must not be.

What tests share beside that is in tests/support.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sysconfig
from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib import metadata

import pytest

from pytest_isolate.linux import mountinfo
from pytest_isolate.session.keeper import Keeper
from pytest_isolate.spec.errors import UnsupportedError
from pytest_isolate.spec.spec import Spec

pytest.register_assert_rewrite("tests.support")
pytest_plugins = ["pytester"]
pytest_plugins += [f"tests.support.{name}" for name in ("neighbourhood", "options", "project", "pytest_forkserver")]

#: A delegated cgroup for all keepers, where the user has none by itself.
_CGROUP = os.environ.get("ISOLATE_CGROUP")
#: What a test may need beside pytest and is not called pytest-*; ``ISOLATE_MUST=neighbours`` means them all.
_NEIGHBOURS = {
    "allure-pytest",
    "debugpy",
    "eventlet",
    "flaky",
    "freezegun",
    "gevent",
    "joblib",
    "multiprocess",
    "pyfakefs",
    "selenium",
    "syrupy",
    "teamcity-messages",
}
#: Programs that a test may need, and the packages that have them.
_PROGRAMS = {"bwrap": "bubblewrap", "chromium": "chromium", "chromedriver": "chromium-driver", "runc": "runc"}
_SKIPPED: pytest.StashKey[Counter[str]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs(*capabilities): what the test needs of the host; skipped, aloud, where it is lacking"
    )
    config.stash[_SKIPPED] = Counter()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As in a shell's background job. A pytest that a test starts would inherit it, and be deaf to Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for capability in marker.args:
            if (reason := _lack(capability)) is not None:
                _without(item.config, capability, reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if skipped := config.stash[_SKIPPED]:
        terminalreporter.section("capabilities that this host lacks")
        for capability, number in sorted(skipped.items()):
            terminalreporter.line(f"{capability}: {number} tests skipped")


def _without(config: pytest.Config, capability: str, reason: str) -> None:
    """Skip, unless ``ISOLATE_MUST`` (``userns,memory``, or ``all``) says that this machine has it."""
    must = os.environ.get("ISOLATE_MUST", "").split(",")
    neighbour = capability in _NEIGHBOURS or capability.startswith("pytest-")
    if capability in must or "all" in must or (neighbour and "neighbours" in must):
        pytest.fail(f"ISOLATE_MUST names {capability}, but: {reason}", pytrace=False)
    config.stash[_SKIPPED][capability] += 1
    pytest.skip(f"needs {capability}: {reason}")


def _lack(capability: str) -> str | None:
    """Why this host lacks a capability, or this environment another plugin; None if it has it."""
    if capability in _NEIGHBOURS or capability.startswith("pytest-"):
        installed = any(metadata.distributions(name=capability))
        return None if installed else f"{capability} is not installed; tox -e neighbours has it"
    if capability in _PROGRAMS:
        package = _PROGRAMS[capability]
        return None if shutil.which(capability) else f"{capability} is not installed (Debian package {package})"
    if (look := _LOOKS.get(capability)) is not None:
        return look()
    known, reasons = _capabilities()
    return None if capability in known else reasons.get(capability, f"this host has no {capability}")


@cache
def _capabilities() -> tuple[frozenset[str], dict[str, str]]:
    """Names of what works here, found by trying, and why what does not does not."""
    try:
        with Keeper(cgroup=_CGROUP) as keeper:
            return keeper.sandboxes.capabilities(), {
                name: reason for name, (reason, _) in keeper.sandboxes.tree.lacks.items()
            }
    except UnsupportedError as error:
        return frozenset(), {"sandbox": str(error)}


@cache
def _no_level_left() -> str | None:
    """Why a sandbox within a sandbox has no overlay; None if it has."""
    root = next((mount for mount in mountinfo.visible(mountinfo.read()) if mount.point == "/"), None)
    if root is not None and root.kind == "overlay":
        return "the root is an overlay, as in a container, and the kernel stacks two"
    return None


@cache
def _no_way_out() -> str | None:
    """Why no sandbox can be connected to the outside here, found by connecting one; None if it can."""
    try:
        with Keeper(cgroup=_CGROUP) as keeper:
            keeper.check(Spec.of(network="nat"))
    except UnsupportedError as error:
        return str(error)
    return None


@cache
def _no_mount_of_proc() -> str | None:
    """Why unshare(1) cannot mount a /proc for a namespace of pids, as where a container's is masked; None if it can."""
    if shutil.which("unshare") is None:
        return "unshare is not installed (Debian package util-linux)"
    command = ["unshare", "--user", "--map-current-user", "--pid", "--fork", "--mount-proc", "true"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr.strip() or None


@cache
def _cannot_trace() -> str | None:
    """Why strace cannot follow a process that is not its child; None if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed (Debian package strace)"
    return None if os.geteuid() == 0 else "only root may follow any process (ptrace_scope)"


@cache
def _no_compiler() -> str | None:
    """Why a test cannot compile a library of its own; None if it can."""
    compiler = str(sysconfig.get_config_var("CC") or "cc").split()[0]
    return None if shutil.which(compiler) else f"there is no {compiler}"


#: How other capabilities are found out.
_LOOKS: dict[str, Callable[[], str | None]] = {
    "compiler": _no_compiler,
    "mount-proc": _no_mount_of_proc,
    "nat": _no_way_out,
    "nesting": _no_level_left,
    "strace": _cannot_trace,
}
