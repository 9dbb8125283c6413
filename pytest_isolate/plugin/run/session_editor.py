"""What an editor that has started pytest needs of a session sandbox: its pipe, its debugger's port, its own program."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_isolate.plugin.run import kept_paths

if TYPE_CHECKING:
    from pytest_isolate.plugin.integrations.debugger import Address
    from pytest_isolate.spec.spec import Spec

#: Where VS Code's plugin writes to: a named pipe, which under another inode would be another pipe.
_PIPE = "TEST_RUN_PIPE"
#: Programs of VS Code and PyCharm that call ``pytest.main()`` and then end with it, and so may go on in a sandbox.
_PROGRAMS = ("vscode_pytest/run_pytest_script.py", "/_jb_pytest_runner.py")


def has_started() -> bool:
    """Whether the program that runs is an editor's."""
    program = os.path.abspath(getattr(sys.modules["__main__"], "__file__", None) or "")
    return program.endswith(_PROGRAMS)


def reached(spec: Spec, address: Address | None) -> Spec:
    """``spec`` with what the editor is to be reached by. :param address: of its debugger."""
    pipe = os.environ.get(_PIPE)
    if pipe and kept_paths.is_pipe(pipe):
        spec = replace(spec, writable=(*spec.writable, os.path.abspath(pipe)))
    if address is not None and address.is_local() and spec.host_ports is not None and spec.network != "host":
        spec = replace(spec, host_ports=(*spec.host_ports, address.port))
    return spec
