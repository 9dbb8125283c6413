"""What of a run's traces counts as left behind."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_isolate.sandbox.outcome import Change, Leak, Outcome, Usage
from pytest_isolate.session import leaks
from pytest_isolate.spec.spec import Spec


def outcome(*changes: Change, **fields: Any) -> Outcome:
    usage = Usage(wall_seconds=1, changes=changes, files_left=changes)
    whole = Outcome(spec=Spec.of(leaks="fail"), usage=usage, complete=True, exit_status=0)
    return replace(whole, **fields)


def held(*pids: int) -> Any:
    return SimpleNamespace(processes=lambda: [*pids], plan=SimpleNamespace(layers=[SimpleNamespace(seen="/dev/shm")]))


@pytest.mark.parametrize(
    "path",
    [
        "/home/a/project/__pycache__",
        "/home/a/project/__pycache__/x.cpython-312.pyc",
        "/home/a/.cache/pip/x",
        "/home/a/project/.hypothesis/examples/1",
        "/home/a/project/.coverage",
        "/home/a/project/.coverage.host.1234",
        "/tmp/pytest-of-a/pytest-0",
        "/tmp/pytest-of-a/pytest-0/test_it0/file",
    ],
)
def test_files_that_are_written_in_passing_are_not_left(path: str) -> None:
    assert leaks.files_left([Change("A", path)], "/tmp/pytest-of-a/pytest-0") == ()


@pytest.mark.parametrize("path", ["/tmp/pytest-of-a/pytest-01", "/home/a/cache/x", "/etc", "/home/a/.coveragerc"])
def test_others_are(path: str) -> None:
    change = Change("M", path)
    assert leaks.files_left([change], "/tmp/pytest-of-a/pytest-0") == (change,)


def test_a_new_directory_stands_for_all_that_is_in_it() -> None:
    found = leaks.complete(
        outcome(
            Change("A", "/srv/new"), Change("A", "/srv/new/a"), Change("A", "/srv/new/b/c"), Change("M", "/srv/old"),
            Change("D", "/srv/old/x"), Change("A", "/dev/shm/y"),
        ),
        held(),
    )  # fmt: skip
    assert [str(leak) for leak in found.leaks] == [
        "file /srv/new (added, with 2 below)",
        "file /srv/old (changed)",
        "file /srv/old/x (removed)",
    ]


def test_an_object_that_others_made_meanwhile_in_the_shared_memory_below_is_none_of_the_run() -> None:
    seen = (Leak("ipc", "/dev/shm/own", ""), Leak("ipc", "/dev/shm/strangers", ""), Leak("ipc", "semaphores 0", ""))
    change = Change("A", "/dev/shm/own")

    assert leaks.complete(outcome(change, leaks=seen), held()).leaks == (seen[0], seen[2])
    apart: Any = SimpleNamespace(processes=list, plan=SimpleNamespace(layers=[]))  # a tmpfs of its own
    assert leaks.complete(outcome(leaks=seen), apart).leaks == seen


@pytest.fixture
def sleeping() -> Iterator[int]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


def test_a_process_that_goes_on_is_named_with_its_age_and_comes_first(sleeping: int) -> None:
    found = leaks.complete(outcome(Change("A", "/x"), leaks=(Leak("port", "127.0.0.1:80", ""),)), held(sleeping))

    assert [leak.kind for leak in found.leaks] == ["process", "port", "file"]
    assert found.leaks[0].name == "sleep 600"
    assert found.leaks[0].detail.startswith("for 0.")


def test_a_process_that_runs_is_given_longer_for_its_end(sleeping: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([[sleeping]] * 9)
    monkeypatch.setattr(leaks, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(leaks, "_is_busy", lambda pid: pid == sleeping)
    ending: Any = SimpleNamespace(processes=lambda: next(looks, []), plan=SimpleNamespace(layers=[]))

    assert leaks.complete(outcome(), ending).leaks == ()


def test_what_may_stay_is_no_leak(sleeping: int) -> None:
    spec = Spec.of(leaks=["report", "process:sl*", "port:80", "file:/var/*"])
    ports = tuple(Leak("port", f"127.0.0.1:{port}", "") for port in (80, 8080))

    found = leaks.complete(outcome(Change("A", "/var/x"), spec=spec, leaks=ports), held(sleeping))

    assert [leak.name for leak in found.leaks] == ["127.0.0.1:8080"]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("www.example.com:443", "network:*.example.com"), ("www.example.com:443", "network:www.example.com:443"),
        ("192.0.2.1:80", "network:192.0.2.*"), ("[2001:db8::1]:80", "network:2001:db8:*"),
        ("2001:db8::1", "network:2001:db8::1"), ("unknown", "network:unknown"),
    ],
)  # fmt: skip
def test_a_pattern_allows_a_place_on_the_network_with_or_without_its_port(name: str, pattern: str) -> None:
    assert leaks.is_allowed(Leak("network", name, ""), [pattern])
    assert not leaks.is_allowed(Leak("network", name, ""), ["network:example.com", "port:443", "network:443"])


def test_of_a_test_that_was_ended_nothing_is_told(sleeping: int) -> None:
    ended = outcome(Change("A", "/x"), complete=False, signal=9, exit_status=None)
    assert leaks.complete(ended, held(sleeping)).leaks == ()
