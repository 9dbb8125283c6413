"""A test's process that does not go: the test is an error after a while, and the run goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.project import Project

_V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
_LINUX = int(os.uname().release.partition(".")[0])

pytestmark = [
    pytest.mark.needs("sandbox"),
    pytest.mark.skipif(
        _V2 and _LINUX >= 7,
        reason="cgroup v2 of Linux 7.2 then keeps its lock: who asks it for anything stays in state D; 6.12 does not",
    ),
]

#: Traces the first test's process, for which nobody but its tracer can wait then (ptrace(2)), and never does. That one
#: is still there at a second look; those that only fork it are not. Ends with pytest.
TRACER = """
    import ctypes, os, sys, time
    PTRACE_SEIZE = 0x4206
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
    pytest, before = os.getppid(), []
    while os.getppid() == pytest:
        with open(f"/proc/{pytest}/task/{pytest}/children") as file:
            others = [int(pid) for pid in file.read().split() if int(pid) != os.getpid()]
        lasting = [pid for pid in others if pid in before]
        if lasting and not os.path.exists("traced") and libc.ptrace(PTRACE_SEIZE, lasting[0], None, None) == 0:
            open("traced", "w").close()
        before = others
        time.sleep(0.2)
"""


@pytest.mark.parametrize("options", [[], ["-n1", "-pxdist"]], ids=["here", "xdist"])
def test_a_process_that_somebody_traces_to_its_end_is_told_and_the_next_test_runs(
    project: Project, options: list[str]
) -> None:
    project.write(
        tracer=TRACER,
        conftest="""
        import subprocess, sys
        import pytest
        from pytest_isolate.sandbox import processes
        processes._KILLED_SECONDS = 2.0
        @pytest.fixture(scope="session", autouse=True)
        def tracer():
            with subprocess.Popen([sys.executable, "tracer.py"]) as process:
                yield process
                process.kill()
        """,
        test_it="""
        import os, pytest, time
        @pytest.mark.isolate(writable=".", timeout=60)
        def test_traced():
            while not os.path.exists("traced"):
                time.sleep(0.05)
        @pytest.mark.isolate
        def test_after(): pass
        """,
    )
    result = project.run(*options)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.re_match_lines([r".*cannot end the test's process \d+: .*It has ended, but process \d+ traces it.*"])
