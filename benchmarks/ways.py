"""The ways to run the same tests that are compared, and the plugins that some of them need."""

from __future__ import annotations

from dataclasses import dataclass

#: The floor: forks each test and sends its reports through a pipe, with nothing round it.
FLOOR = """
import json, os
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        reports = runtestprotocol(item, log=False, nextitem=None)
        pack = item.config.hook.pytest_report_to_serializable
        with os.fdopen(writer, "wb") as file:
            packed = [pack(config=item.config, report=report) for report in reports]
            file.write(json.dumps(packed, default=str).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        records = json.loads(file.read())
    os.waitpid(pid, 0)
    for record in records:
        report = item.config.hook.pytest_report_from_serializable(config=item.config, data=record)
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
"""

#: Reports of pytest 9.2 hold what pytest-forked (1.7.5) cannot marshal, and every test fails. Without that it works.
FORKED = """
import pytest_forked

plain = pytest_forked.serialize_report
pytest_forked.serialize_report = lambda report: {
    **{key: value for key, value in plain(report).items() if key != "_id"}, "nodeid": report.nodeid
}
"""

#: No cgroups, as for a user to whom none are delegated.
NO_CGROUPS = """
from pytest_isolate.cgroups import discovery
from pytest_isolate.cgroups.refusals import NEEDED
from pytest_isolate.cgroups.worker_tree import WorkerTree

discovery.find = lambda **_: WorkerTree([], dict.fromkeys(NEEDED, ("left out", "")))
"""

#: When each test was over, the page faults until then, and the memory peak of each, where it is known.
CLOCK = """
import json, os, resource, time
import pytest

ends, peaks, started, faults = [], [], [], []

def pytest_collection_finish(session):
    started.append(time.perf_counter())

@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish(nodeid):
    ends.append(time.perf_counter())
    faults.append([resource.getrusage(who).ru_minflt for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)])

def pytest_runtest_logreport(report):
    if not report.passed:
        pytest.exit("a test failed: " + (str(report.longrepr).split("\\n")[-1] or "it does not say why"), 1)
    if report.when == "call":
        peaks.extend(value for name, value in report.user_properties if name == "isolate_memory_peak_bytes")

def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        spread = config.pluginmanager.hasplugin("dsession")  # the faults are those of xdist's workers
        record = {"start": started, "ends": ends, "peaks": peaks, "faults": [] if spread else faults}
        with open(os.environ["CLOCK"], "w") as file:
            json.dump(record, file)
"""

#: Modules that lie beside the tests.
PLUGINS = {"floor": FLOOR, "fix_forked": FORKED, "no_cgroups": NO_CGROUPS, "clock": CLOCK}

TESTS = """
import pytest, time

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

HELD = []
while resident() < {parent} << 20:
    HELD.append([{{"number": i}} for i in range(1000)])

@pytest.mark.parametrize("number", range({tests}))
def test_nothing(number):
    if {seconds}:
        end = time.perf_counter() + {seconds}
        while time.perf_counter() < end:
            pass
"""

#: One test at a time, as all others do: of those that run side by side, several are told at a time.
_OURS = ("-p", "pytest_isolate.plugin.hooks", "--isolate-all", "--isolate-jobs=1")


@dataclass(frozen=True, slots=True)
class Way:
    """How the tests are run. Below xdist, in all ways, where a row has more than one worker."""

    name: str
    options: tuple[str, ...] = ()
    peer: str | None = None  #: the distribution that is measured, in an environment of its own; None: it is ours
    rootless: bool = False  #: measured as an unprivileged user as well, in a run that root has started
    most_tests: int = 10_000  #: more are not run, as each takes so long
    workers: tuple[int, ...] = (1, 2)
    caveat: str = ""


#: Below xdist with two workers, "plain" and "xdist" are the same.
WAYS = {
    way.name: way
    for way in (
        Way("plain", workers=(1,)),
        Way(
            "xdist",
            ("-p", "xdist", "-n", "1", "--maxschedchunk=8"),
            caveat="isolates nothing; with one worker its CPU time has the start of that worker in it",
        ),
        Way("fork", ("-p", "floor"), rootless=True),
        Way(
            "forked",
            ("-p", "pytest_forked", "-p", "fix_forked", "--forked"),
            "pytest-forked",
            rootless=True,
            caveat="patched here for pytest 9.2, with which it fails every test",
        ),
        Way("pypi-isolate", ("-p", "pytest_isolate.plugin", "--isolate"), "pytest-isolate"),
        Way(
            "bwrap",
            ("-p", "pytest_bwrap", "--bwrap"),
            "pytest-bwrap",
            most_tests=20,
            caveat="a new pytest for each test, so 20 tests at most",
        ),
        Way("isolate", _OURS, rootless=True),
        Way("isolate, mortal heap", (*_OURS, "--isolate-no-immortal-heap"), rootless=True),
        Way("isolate, no cgroups", (*_OURS, "-p", "no_cgroups"), rootless=True),
    )
}
