"""A failure that says it has written a file, such as a snapshot: that goes with the sandbox; each run says so anew."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_isolate.sandbox.outcome import Change

#: pytest-regressions: "created:", "regenerating file at:".
_SAYS_SO = re.compile(r"\b(created|regenerat\w+|generated|modified|updated|saved|written)\b", re.IGNORECASE)
_SHOWN = 3


def hints(text: str, left: Sequence[Change]) -> list[str]:
    """Sentences on files that ``text``, the failure's own, says were written.

    :param left: what the test changed, but for what is written in passing.
    """
    if not left or not _SAYS_SO.search(text):
        return []
    made = {change.path for change in left if change.kind == "A"}
    parents = {posixpath.dirname(path) for path in made}
    written = [change.path for change in left if change.kind != "D" and change.path not in parents]
    return [_tell(path, made) for path in written if _is_named(path, text)][:_SHOWN]


def _is_named(path: str, text: str) -> bool:
    return re.search(rf"(?<![\w/.-]){re.escape(path)}(?!\.?[\w/-])", text) is not None


def _tell(path: str, made: set[str]) -> str:
    folder = posixpath.dirname(path)
    while folder in made:  # a folder to be kept must be there before the test
        folder = posixpath.dirname(folder)
    return f"{path} goes with the sandbox, so the next run will not find it: writable=[{folder!r}] keeps it."
