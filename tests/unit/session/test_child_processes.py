from __future__ import annotations

import os
import subprocess
import sys

from pytest_isolate.session.child_processes import ChildProcesses


def test_children_that_are_tests_are_left_out() -> None:
    children = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2)]
    looked = ChildProcesses()
    try:
        server, test = (child.pid for child in children)
        found = looked.look(but={test})
        assert server in found
        assert test not in found
        assert os.fstat(found[server])
    finally:
        looked.close()
        for child in children:
            child.communicate()
