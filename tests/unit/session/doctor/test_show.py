"""The table that people read, and the data that programs read."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

from pytest_isolate.session.doctor.findings import Finding, Reason
from pytest_isolate.session.doctor.measure import Cost
from pytest_isolate.session.doctor.show import Examination, as_data, as_text

REASON = Reason(
    "cannot make a group in /sys/fs/cgroup/one: EROFS (Read-only file system)",
    "In a container: docker run --privileged --cgroupns=private, or mount a writable group.",
)
FOUND = Examination(
    machine="pytest-isolate-ns 1.0, CPython 3.12.3, Linux 6.8 x86_64, as alice",
    in_force="rootless, overlay on /, no cgroup controllers",
    findings=(
        Finding(key="sandbox", about="of its own", state="works"),
        Finding(key="memory", about="cap on memory", state="weaker", reasons=(REASON,), stand_in="a weaker limit"),
        Finding(key="pids", about="cap on processes", state="lacking", reasons=(REASON,)),
    ),
    cost=Cost(fork_seconds=0.001, test_seconds=0.0042, process_bytes=22 << 20),
)


def test_the_table_names_each_reason_once() -> None:
    assert as_text(FOUND).splitlines() == [
        "pytest-isolate-ns 1.0, CPython 3.12.3, Linux 6.8 x86_64, as alice",
        "isolate: rootless, overlay on /, no cgroup controllers",
        "",
        "sandbox  works    of its own",
        "memory   weaker   cap on memory [1]",
        "pids     lacking  cap on processes [1]",
        "",
        "[1] memory, pids: cannot make a group in /sys/fs/cgroup/one: EROFS (Read-only file system)",
        "    In a container: docker run --privileged --cgroupns=private, or mount a writable group.",
        "    memory with --isolate-unsupported=degrade: a weaker limit.",
        "",
        "An empty isolated test takes 4.2 ms here, a bare fork 1.0 ms (medians; both grow with the process, here 22M).",
        "Tests can be isolated here; one that asks for what does not work is an error (--isolate-unsupported).",
        f"As root more may work; to see: sudo {sys.executable} -m pytest_isolate doctor",
    ]


def test_what_the_same_remedy_mends_is_one_entry() -> None:
    cpu = Reason(REASON.why.replace("one", "cpu"), REASON.remedy)
    more = Finding(key="cpus", about="CPU quota", state="lacking", reasons=(cpu,))
    nat = Finding(key="nat", about="a way out", state="lacking", reasons=(Reason("no pasta", "Install it."),))

    lines = as_text(replace(FOUND, findings=(*FOUND.findings, more, nat))).splitlines()

    assert lines[6:12] == [
        "cpus     lacking  CPU quota [1]",
        "nat      lacking  a way out [2]",
        "",
        "[1] memory, pids: cannot make a group in /sys/fs/cgroup/one: EROFS (Read-only file system)",
        "    cpus: cannot make a group in /sys/fs/cgroup/cpu: EROFS (Read-only file system)",
        f"    {REASON.remedy}",
    ]


def test_on_a_terminal_no_line_is_longer_and_no_option_is_broken() -> None:
    lines = as_text(FOUND, width=60).splitlines()
    assert max(map(len, lines[3:])) <= 60
    assert any("--cgroupns=private," in line.split() for line in lines)
    assert "\x1b[31mlacking\x1b[0m" in as_text(FOUND, colour=True)


def test_data_has_the_same() -> None:
    data = json.loads(json.dumps(as_data(FOUND)))

    assert data["version"] == 1
    assert data["ok"] is True
    assert data["capabilities"]["memory"] == {
        "state": "weaker",
        "about": "cap on memory",
        "reasons": [{"why": REASON.why, "remedy": REASON.remedy}],
        "stand_in": "a weaker limit",
        "note": None,
    }
    assert data["cost"] == {"fork_seconds": 0.001, "test_seconds": 0.0042, "process_bytes": 22 << 20}


def test_what_is_required_must_work_in_full() -> None:
    required = replace(FOUND, strict=("pids", "sandbox", "memory"))

    assert required.missed == ("memory", "pids")
    assert "Required and not working: memory, pids." in as_text(required)
    assert as_data(required)["ok"] is False
