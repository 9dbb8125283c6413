"""Writing a file as a whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress


def write_whole(path: str, text: str) -> None:
    """Write it, with the folders above. Until then, and after a failure, the file is as it was.

    :raises OSError: if it cannot be written, as on a full disk.
    """
    part = f"{path}.part"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        with open(part, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
        os.replace(part, path)
    except OSError:
        with suppress(OSError):
            os.unlink(part)
        raise
