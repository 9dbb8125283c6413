"""The key ``devices``: paths of device nodes, as those of ``docker run --device``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pytest_isolate.linux import files
from pytest_isolate.spec.lists import paths
from pytest_isolate.spec.messages import shown

#: What each sandbox has of its own.
_OWN = frozenset({"fd", "mqueue", "ptmx", "pts", "shm", "stderr", "stdin", "stdout"})
#: As in files of compose: ``/dev/kvm:/dev/kvm:rwm``.
_WORDS = re.compile(r"(?P<path>.+?)(?::(?P<inside>/.+?))?(?::(?P<mode>[rwm]{1,3}))?")
_RULE = 'allowed are paths of devices, or of folders that have devices, such as "/dev/fuse" or "/dev/dri"'


def device_paths(value: object) -> tuple[str, ...]:
    """Absolute paths in /dev, each once, from one or several. What is there is found out later: :func:`problem`."""
    return tuple(dict.fromkeys(_path(path) for path in paths(value, "/dev")))


def _path(written: str) -> str:
    match = _WORDS.fullmatch(written)
    path, inside, mode = match.group("path", "inside", "mode") if match else (written, None, None)
    first = path.removeprefix("/dev/").partition("/")[0]
    if not path.startswith("/dev/"):
        hint = " For files and folders there is writable." if path != "/dev" else ""
        raise ValueError(f"{shown(path)} is not in /dev; {_RULE}.{hint}")
    if first in _OWN:
        raise ValueError(f"{shown(path)}: each sandbox has a /dev/{first} of its own; {_RULE}.")
    if inside not in (None, path):
        raise ValueError(f"{shown(written)}: a device is found at its own path inside; write {shown(path)}.")
    if mode is not None and {*mode} != {*"rwm"}:
        raise ValueError(f"{shown(written)}: who may open a device is up to its mode and owner; write {shown(path)}.")
    return path


def problem(found: Iterable[str] | None) -> str | None:
    """What is wrong with the value of the key, if there is something at a path, but no device."""
    if not found:
        return None
    from pytest_isolate.linux import device_nodes  # noqa: PLC0415 - most runs ask for none

    for path in found:
        if files.exists(path) and not device_nodes.find(path):
            return f"devices={shown(path)}: that is no device, and no folder that has any; {_RULE}."
    return None
