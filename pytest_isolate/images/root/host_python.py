"""What the running interpreter goes on needing of the host when another root is under it.

It is mapped already, and so are the extension modules that it has imported. What it reads later, modules, the source
lines of tracebacks, shared objects of extensions, must be found where the image would have something else, or nothing.
"""

from __future__ import annotations

import glob
import os
import sys
import sysconfig
from collections.abc import Iterator

#: Prefixes that a system shares with its interpreter: never shown whole, only the interpreter's own parts of them.
SYSTEM = ("/", "/bin", "/etc", "/home", "/lib", "/lib64", "/opt", "/root", "/sbin", "/usr", "/usr/local", "/var")
#: Shown where the image has nothing: what time zones, locales and certificates are looked up in by code that this
#: process runs. /etc/localtime of the image, if it has one, is the test's as well.
AUXILIARY = (
    "/etc/localtime",
    "/etc/pki",
    "/etc/ssl",
    "/usr/lib/locale",
    "/usr/lib/ssl",
    "/usr/local/share/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/share/zoneinfo",
)


def prefixes() -> list[str]:
    """Trees that belong to the interpreter or its environment alone."""
    found = (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)
    return [path for path in dict.fromkeys(found) if path not in SYSTEM and os.path.isdir(path)]


def modules() -> list[str]:
    """Where modules come from: the standard library, ``sys.path``, and packages that were loaded from elsewhere."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    standard = [path for name in names if (path := sysconfig.get_path(name))]
    listed = [os.path.abspath(path) for path in (*standard, *sys.path) if os.path.isabs(path)]
    found = [path for path in dict.fromkeys(listed) if os.path.exists(path) and path not in SYSTEM]
    known = tuple(f"{path}/" for path in found)
    loaded = {folder for folder in _folders_of_packages() if not f"{folder}/".startswith(known)}
    return [*found, *sorted(loaded)]


def _folders_of_packages() -> Iterator[str]:
    """Of packages at the top level; those of an editable installation may be on no path."""
    for name, module in list(sys.modules.items()):
        paths = getattr(module, "__dict__", {}).get("__path__")
        if "." not in name and isinstance(paths, list):
            yield from (path for path in paths if isinstance(path, str) and os.path.isdir(path))


def libraries() -> list[str]:
    """Directories in which the dynamic linker finds shared objects (ld.so(8)), links resolved."""
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    listed = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    listed += _read_configured("/etc/ld.so.conf")
    for top in ("/lib", "/usr/lib", "/usr/local/lib"):
        listed += [f"{top}/{multiarch}", f"{top}64", top]
    found = dict.fromkeys(os.path.realpath(path) for path in listed if os.path.isabs(path) and os.path.isdir(path))
    return [path for path in found if any(".so" in name for name in os.listdir(path))]


def _read_configured(file: str) -> list[str]:
    """Directories of ld.so.conf, the files that it includes among them."""
    found: list[str] = []
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                words = line.partition("#")[0].split()
                if words[:1] == ["include"]:
                    for pattern in words[1:]:
                        for each in sorted(glob.glob(os.path.join(os.path.dirname(file), pattern))):
                            found += _read_configured(each)
                else:
                    found += words[:1]
    except OSError:
        pass
    return found
