"""What an image's C library asks of the sandbox."""

from __future__ import annotations

from pytest_isolate.images.root.merged_tree import Merged

_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")


def needs_tmpfs(image: Merged) -> bool:
    """Whether its glibc takes shared memory from a tmpfs only: that before 2.34, whose file is ``libc-2.31.so``."""
    return any(name.startswith("libc-2.") for folder in _FOLDERS for name in _libraries(image, folder))


def _libraries(image: Merged, folder: str) -> list[str]:
    """Names in ``folder`` and, as Debian has it, in those of single architectures in it."""
    try:
        _, found = image.resolve(folder)
    except OSError:
        return []
    if found is None or not found.is_dir:
        return []
    names = image.names(found)
    inner = [image.below(found, name) for name in names if "-linux-gnu" in name]
    return [*names, *(name for each in inner if each and each.is_dir for name in image.names(each))]
