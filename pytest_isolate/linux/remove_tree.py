"""Removing trees in which tests and overlayfs have left directories without permissions, and any number in a row."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pytest_isolate.linux import native


def remove_tree(path: Path, *, ignore_errors: bool = False) -> None:
    """Remove a tree, whatever permissions its directories have, and however deep it is.

    :raises OSError: if something of it stays.
    """
    native.remove_tree(os.fspath(path))
    if not ignore_errors and os.path.lexists(path):
        shutil.rmtree(path)  # which says what stays, and why
