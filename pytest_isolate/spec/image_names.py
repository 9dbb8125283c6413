"""The images of a project, by name: folders beside one another. Light, as it is asked at every collection."""

from __future__ import annotations

import os

from pytest_isolate.spec.messages import nearest


def in_folder(folder: str) -> list[str]:
    """Names of the images in ``folder``."""
    try:
        return sorted(
            entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith((".", "_"))
        )
    except OSError:
        return []


def unknown(name: str, folder: str) -> str:
    """The sentence about a name that is none of theirs."""
    there = in_folder(folder)
    if not there:
        return (
            f"there are no images in {folder}. To bring one in: python -m pytest_isolate images pull REFERENCE (from a "
            "registry), or images import PATH (an archive); see `python -m pytest_isolate docs images`."
        )
    return f"there is no such image in {folder}; there are {', '.join(there)}.{nearest(name, there)}"


def problem(name: str | None, folder: str) -> str | None:
    """What is wrong with the value of the key ``image``, if anything is."""
    return None if name is None or name in in_folder(folder) else f"image={name!r}: {unknown(name, folder)}"
