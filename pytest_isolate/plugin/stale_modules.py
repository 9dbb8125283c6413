"""Forgets modules of this package that are loaded no longer.

pytester runs pytest within a process that runs pytest, and takes out of ``sys.modules`` then what that run has
imported. The package keeps such a module as an attribute: ``from package import module`` of the next run would get the
old one, and ``from package.module import name`` a new one. And the old one's loader holds all of the run that is over.
"""

from __future__ import annotations

import sys
from types import ModuleType

_PACKAGE = "pytest_isolate"


def forget() -> None:
    """Take them out of the packages that are loaded."""
    for name, package in [*sys.modules.items()]:
        if (name == _PACKAGE or name.startswith(f"{_PACKAGE}.")) and hasattr(package, "__path__"):
            for attribute, value in [*vars(package).items()]:
                full = f"{name}.{attribute}"
                if isinstance(value, ModuleType) and value.__name__ == full and full not in sys.modules:
                    delattr(package, attribute)
