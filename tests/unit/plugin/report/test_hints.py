"""Which keys of a sandbox are named beside which failures."""

from __future__ import annotations

from socket import gethostname
from types import SimpleNamespace

import pytest

from pytest_isolate.plugin.report import hints as report_hints
from pytest_isolate.plugin.report.hints import hints
from pytest_isolate.spec.spec import Spec


def test_a_full_disk_names_the_size_of_the_writable_layer() -> None:
    (hint,) = hints(Spec.of(disk="20M"), "cp: error writing '/tmp/x': No space left on device")

    assert hint.startswith('disk="20M" is all that the test may write')


@pytest.mark.parametrize(
    "text",
    [
        "OSError: [Errno 18] Invalid cross-device link: '/project/a' -> '/project/b'",
        "fatal: renaming 'a' failed: Invalid cross-device link",
        "mv: cannot move 'a': Invalid cross-device link",
    ],
)
def test_a_rename_to_another_device_names_layers_without_root(text: str) -> None:
    (hint,) = hints(Spec(), text)

    assert hint.startswith("Where the header says rootless, rename(2) refuses a folder")


@pytest.mark.parametrize(
    "text",
    [
        "    os.chown(path, 0, 0)\nE   OSError: [Errno 22] Invalid argument: 'a'",
        "    os.setresuid(0, 0, 0)\nE   OSError: [Errno 22] Invalid argument",
        "    Popen(command, group='staff')\nE   OSError: [Errno 22] Invalid argument",
        "chgrp: changing group of 'a': Invalid argument",
    ],
)
def test_an_owner_that_cannot_be_named_names_the_only_one_without_root(text: str) -> None:
    (hint,) = hints(Spec(), text)

    assert hint.startswith("Where the header says rootless, a sandbox knows one user and one group")


def test_what_has_another_owner_names_the_only_one_without_root() -> None:
    (hint,) = hints(Spec(), "E   OSError: [Errno 75] Value too large for defined data type: '/project/theirs/new'")

    assert hint.startswith("Where the header says rootless, a sandbox can name no user and no group but the test's own")


def test_any_other_invalid_argument_names_nothing() -> None:
    assert hints(Spec(), "    os.lseek(0, -1, 0)\nE   OSError: [Errno 22] Invalid argument") == []


@pytest.mark.parametrize(
    "text",
    [
        "OSError: [Errno 101] Network is unreachable",
        "socket.gaierror: [Errno -3] Temporary failure in name resolution",
        "curl: (6) Could not resolve host: example.com",
    ],
)
def test_what_cannot_be_reached_names_the_network(text: str) -> None:
    (hint,) = hints(Spec(), text)

    assert hint.startswith('network="none" has no way to the outside')
    assert hints(Spec.of(network="nat"), text) == []
    assert hints(Spec.of(network="host"), text) == []


def test_a_group_of_multicasts_that_cannot_be_joined_names_the_network() -> None:
    refused = "OSError: [Errno 19] No such device"
    text = f">   sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)\nE   {refused}"

    (hint,) = hints(Spec(), text)

    assert hint.startswith('network="none" has no route for multicasts')
    assert hints(Spec.of(network="nat"), text) == []
    assert hints(Spec.of(network="host"), text) == []
    assert hints(Spec(), f'>   open("/dev/one")\nE   {refused}') == []


def test_a_refused_connection_names_host_ports() -> None:
    text = "ConnectionRefusedError: [Errno 111] Connection refused"

    (hint,) = hints(Spec(), text)

    assert "host_ports=[PORT]" in hint
    assert hints(Spec.of(network="host"), text) == []


@pytest.mark.parametrize(
    "text",
    [
        'connection to server on socket "/run/postgresql/.s.PGSQL.5432" failed: Connection refused',
        "s.connect('/run/app/app.sock')\nE   ConnectionRefusedError: [Errno 111] Connection refused",
        "dial unix /var/run/docker.sock: connect: connection refused\nConnection refused",
        "with socket.socket(socket.AF_UNIX) as client:\nE   ConnectionRefusedError: [Errno 111] Connection refused",
        "await asyncio.open_unix_connection('agent')\nE   ConnectionRefusedError: [Errno 111] Connection refused",
    ],
)
def test_a_unix_socket_that_refuses_names_the_session_sandbox_and_writable_alone(text: str) -> None:
    (hint,) = hints(Spec(), text)

    assert "--isolate-session" in hint
    assert "writable=[FOLDER]" in hint
    assert any("writable=[FOLDER]" in hint for hint in hints(Spec.of(network="host"), text))
    assert not any("writable" in hint for hint in hints(Spec(), "connecting to 127.0.0.1:80: Connection refused"))


def test_a_refused_address_of_ip_beside_a_unix_socket_names_both_ways() -> None:
    text = "socket /run/a.sock: Connection refused\nOSError: Multiple exceptions: Connect call failed ('127.0.0.1', 80)"

    assert len(hints(Spec(), text)) == 2


def test_the_number_of_pytests_process_is_named_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_hints, "calls", SimpleNamespace(getpid=lambda: 12345, gethostname=gethostname))

    (hint,) = hints(Spec(), "E       assert '2' == '12345'\n>   assert pid.read_text() == str(PID)")

    assert hint.startswith("12345 is the number of pytest's own process")
    assert hints(Spec(), "E       assert '2' == '123456'\n>   assert pid.read_text() == str(PID)") == []
    assert hints(Spec(), "E       assert '2' == '12345'\n>   assert read_text() == '12345'") == []
    monkeypatch.setattr(report_hints, "calls", SimpleNamespace(getpid=lambda: 7, gethostname=gethostname))
    assert hints(Spec(), "E       assert 2 == 7\n>   assert pid == PID") == []


def test_an_end_without_a_result_names_what_ends_a_process_so() -> None:
    (hint,) = hints(Spec(), "exited with status 70 without a result (in set-up)")

    assert hint.startswith("Such an end is os._exit")


def test_other_failures_name_nothing() -> None:
    assert hints(Spec(), "assert 1 == 2") == []


@pytest.mark.parametrize("text", ["exceeded timeout=8 s (in the call)", "_queue.Empty\nE queue.Empty", "TimeoutError"])
def test_a_wait_in_vain_names_the_threads_that_are_not_in_the_sandbox(text: str) -> None:
    (hint,) = hints(Spec(), text, {"reader": None, "observer": None})

    assert hint.startswith("A sandbox has no threads of pytest's own process (here reader, observer)")
    assert hints(Spec(), text) == []
    assert hints(Spec(), "AssertionError", {"reader": None}) == []
    assert "(here 0, 1, 2, 3, 4 and 1 more)" in hints(Spec(), text, dict.fromkeys("012345"))[0]


def test_the_fixture_that_started_such_a_thread_is_named_with_the_value_that_sets_it_up_in_each_sandbox() -> None:
    (hint,) = hints(Spec(), "TimeoutError", {"reader": "queue", "other": None, "writer": "queue"})

    assert '"isolate_fixtures_inside = queue" in the ini file sets its fixture up in each sandbox' in hint


def test_of_several_fixtures_with_threads_those_of_the_test_are_named() -> None:
    threads = {"reader": "one", "reader of other": "other"}

    assert '"isolate_fixtures_inside = other" in' in hints(Spec(), "TimeoutError", threads, ["other"])[0]
    assert '"isolate_fixtures_inside = one other" in' in hints(Spec(), "TimeoutError", threads, ["tmp_path"])[0]


def test_an_assertion_that_fails_beside_a_thread_of_a_fixture_names_that_fixture_if_nothing_else_is_named() -> None:
    threads = {"server": "smtp", "other": "queue", "unknown": None}
    text = "E       assert []"

    (hint,) = hints(Spec(), text, threads, ["smtp", "tmp_path"])

    assert "The fixture smtp runs a thread" in hint
    assert hints(Spec(), text, threads, ["tmp_path"]) == []
    assert hints(Spec(), "HTTPError: HTTP Error 404: Not Found", threads, ["smtp"]) == []
    assert not any("smtp" in hint for hint in hints(Spec(), "No space left on device", threads, ["smtp"]))


def test_an_assertion_beside_a_native_thread_names_nothing_as_such_threads_share_no_objects() -> None:
    assert hints(Spec(), "E       assert []", {"pool (native)": "arrays"}, ["arrays"]) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("    assert node == gethostname()\nE   AssertionError: assert 'vm.lan' == 'isolated'", True),
        ("E   assert '1@vm.lan' == '1@isolated'", True),
        ("    assert 'vm.lan' == 'isolated'\nE   assert 1 == 2", False),
        ("E   AssertionError: assert 'vm.lan' == 'own'", False),
    ],
)
def test_the_two_names_of_the_host_are_told_where_a_test_compares_them(text: str, *, told: bool) -> None:
    name = gethostname()
    found = hints(Spec(), text.replace("vm.lan", name))
    assert [f"isolate_hostname = {name}" in hint for hint in found] == [True] * told
