"""overlayfs's terms (the kernel's overlayfs.rst): mount options, whiteouts, opaque directories."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress

from pytest_isolate.linux.calls import calls

#: The attribute of a directory that hides what lies below it, for overlays with and without ``userxattr``.
_USER_OPAQUE, _TRUSTED_OPAQUE = "user.overlay.opaque", "trusted.overlay.opaque"


def options(*, trusted: bool, redirect: bool = True) -> str:
    """Options of an overlay, after its directories.

    :param trusted: root's, whose marks are attributes that only the host's root may set; else those of any user.
    :param redirect: a renamed directory is a mark alone instead of a copy; only root's can.
    """
    own = f",redirect_dir={'on' if redirect else 'off'}" if trusted else ",userxattr"
    return f"{own},index=off,xino=off"


def directories(lowers: Iterable[str], upper: str, work: str) -> str:
    """Options that name an overlay's directories; the topmost of ``lowers`` first."""
    return f"lowerdir={':'.join(map(quote, lowers))},upperdir={upper},workdir={work}"


def quote(path: str) -> str:
    r"""``path`` as a lower directory in overlay options, where ``\ , :`` have a meaning."""
    return path.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")


def is_whiteout(status: os.stat_result) -> bool:
    """A character device 0:0 (overlayfs.rst, "whiteouts and opaque directories")."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def make_whiteout(path: str) -> None:
    """Hide what the layers below have at ``path``."""
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def is_opaque(path: str | int) -> bool:
    """Whether a directory hides what the layers below have in it."""
    for name in (_USER_OPAQUE, _TRUSTED_OPAQUE):
        with suppress(OSError):
            if calls.getxattr(path, name) == b"y":
                return True
    return False


def make_opaque(path: str | int, *, trusted: bool = False) -> None:
    """Hide what the layers below have in a directory. :param trusted: for overlays of root; else for those of users."""
    calls.setxattr(path, _TRUSTED_OPAQUE if trusted else _USER_OPAQUE, b"y")
