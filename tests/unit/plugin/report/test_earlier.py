"""What a failed test is told of earlier tests, whose sandboxes are gone."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from pytest_isolate.plugin.report import earlier_code, earlier_files
from pytest_isolate.sandbox.outcome import Change

FIRST = "test_a.py::test_first"
CACHE: dict[str, int] = {}


class State:
    """Of a test module."""


def of_files(text: str, *changes: Change, own: tuple[str, ...] = ()) -> list[str]:
    return earlier_files.hints(text, [(FIRST, changes)], own)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("FileNotFoundError: [Errno 2] No such file or directory: '/p/out.txt'", "/p/out.txt"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'out/x.txt'", "/p/out/x.txt"),
        ("FileNotFoundError: [Errno 2] No such file or directory: './out/x.txt'", "/p/out/x.txt"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'out/new.txt'", "/p/out"),
        ("cat: /p/out.txt: No such file or directory", "/p/out.txt"),
        ("E   ModuleNotFoundError: No module named 'made.here'", "/p/made/here.py"),
        ("sqlite3.OperationalError: no such table: users", "/p/app.db"),
        ("E    +  where False = exists('/p/out.txt')", "/p/out.txt"),
    ],
)
def test_a_file_that_is_missing_is_told_with_the_test_that_made_it(text: str, path: str) -> None:
    (hint,) = of_files(text, Change("A", path), Change("A", "/p/other"))

    assert hint.startswith(f"{path} was made by {FIRST}, in a sandbox that is gone now. Let a higher")
    assert f"writable=['{os.path.dirname(path)}']" in hint
    assert of_files(text) == []


def test_what_the_failed_test_made_itself_is_not_missed_but_for_databases() -> None:
    made = Change("A", "/p/app.db")
    assert of_files("No such file or directory: 'app.db'", made, own=("/p/app.db",)) == []
    assert of_files("no such table: users", made, own=("/p/app.db",)) != []


def test_writable_names_a_folder_that_was_there_before() -> None:
    (hint,) = of_files("cat: x: No such file or directory", Change("A", "/p/a"), Change("A", "/p/a/x"))
    assert "writable=['/p']" in hint


def test_what_an_earlier_test_removed_is_there_again() -> None:
    (hint,) = of_files("FileExistsError: [Errno 17] File exists: 'out'", Change("D", "/p/out"))
    assert f"/p/out was removed by {FIRST}, in its own sandbox only." in hint


@pytest.mark.parametrize(
    "text",
    [
        "FileNotFoundError: [Errno 2] No such file or directory: '/p/out.txt2'",
        "FileNotFoundError: [Errno 2] No such file or directory: 'ut.txt'",
        "FileExistsError: [Errno 17] File exists: '/p/out.txt'",
        "E   assert 'out' == 'in'",
        "opened '/p/out.txt'",
        "ModuleNotFoundError: No module named 'ou'",
        "no such table: users",
    ],
)
def test_another_failure_says_nothing_of_files(text: str) -> None:
    assert of_files(text, Change("A", "/p/out.txt"), Change("A", "/p/out")) == []


def test_the_latest_of_several_tests_is_named() -> None:
    made = Change("A", "/p/x")
    (hint,) = earlier_files.hints("cat: x: No such file or directory", [("t::a", [made]), ("t::b", [made])], ())
    assert "/p/x was made by t::b," in hint


def sets_attribute() -> None:
    State.ready = True  # type: ignore[attr-defined]


def sets_global() -> None:
    global READY  # noqa: PLW0603 - what suites do
    READY = True  # type: ignore[name-defined]


def sets_item() -> None:
    def inner() -> None:
        CACHE["ready"] = 1

    inner()


def sets_variable() -> None:
    os.environ["READY"] = "1"


def sets_its_own() -> dict[str, int]:
    ready = {"READY": 1}
    ready["ready"] = 1
    return ready


def serves() -> None:
    socket.create_server(("127.0.0.1", 8080))


def of_code(text: str, function: Callable[[], Any]) -> list[str]:
    return earlier_code.hints(text, lambda: [(FIRST, function.__code__)])


@pytest.mark.parametrize(
    ("text", "function", "name"),
    [
        ("E  AttributeError: type object 'State' has no attribute 'ready'", sets_attribute, "ready"),
        ("E  AttributeError: 'State' object has no attribute 'ready'. Did you mean: 'read'?", sets_attribute, "ready"),
        ("E  NameError: name 'READY' is not defined", sets_global, "READY"),
        ("E  KeyError: 'ready'", sets_item, "ready"),
        ("<frozen os>:679: KeyError: 'READY'", sets_variable, "READY"),
    ],
)
def test_what_is_missing_in_memory_is_told_with_the_test_that_sets_it(
    text: str, function: Callable[[], Any], name: str
) -> None:
    (hint,) = of_code(text, function)

    assert hint.startswith(f"{name!r} is set by {FIRST}, in its own sandbox only: ")
    assert of_code(text, sets_its_own) == []


def test_a_refused_connection_names_the_test_that_served_at_the_port() -> None:
    text = (
        ">   socket.create_connection(('127.0.0.1', 8080))\nE   ConnectionRefusedError: [Errno 111] Connection refused"
    )

    (hint,) = of_code(text, serves)

    assert hint.startswith(f"Port 8080 seems to be served by {FIRST}, whose sandbox is gone")
    assert of_code(text.replace("8080", "8081"), serves) == []
    assert of_code(text, sets_item) == []


def test_a_submodule_that_nobody_has_imported_is_named() -> None:
    (hint,) = earlier_code.hints("E  AttributeError: module 'json' has no attribute 'tool'", list)

    assert json.__path__
    assert 'write "import json.tool" where it is used.' in hint
    assert earlier_code.hints("E  AttributeError: module 'json' has no attribute 'tools'", list) == []
    assert earlier_code.hints("E  AttributeError: module 'nowhere' has no attribute 'tool'", list) == []
