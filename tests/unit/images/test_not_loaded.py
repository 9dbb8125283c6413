"""Code for images is loaded where there are images."""

from __future__ import annotations

import subprocess
import sys


def test_neither_the_package_nor_the_plugin_loads_image_code() -> None:
    script = (
        "import sys, pytest_isolate, pytest_isolate.plugin.hooks; "
        "print(sorted(name for name in sys.modules if name.startswith('pytest_isolate.images') "
        "or name in ('tarfile', 'pyroute2', 'pytest_isolate.sandbox.jail', 'pytest_isolate.images.store.unpack')))"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "[]\n"
