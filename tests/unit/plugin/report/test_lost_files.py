"""A file that a failure says was written is named as one that goes with the sandbox."""

from __future__ import annotations

import pytest

from pytest_isolate.plugin.report.lost_files import hints
from pytest_isolate.sandbox.outcome import Change

_NEW = (Change("A", "/p/test_d"), Change("A", "/p/test_d/a.yml"))


def test_a_file_that_was_created_is_named_with_the_folder_that_was_there_before() -> None:
    (hint,) = hints("E   Failed: File not found in data directory, created:\nE   - /p/test_d/a.yml", _NEW)

    assert hint == "/p/test_d/a.yml goes with the sandbox, so the next run will not find it: writable=['/p'] keeps it."


def test_a_file_that_was_written_anew_is_named_with_its_own_folder() -> None:
    text = "E   Files differ and --force-regen set, regenerating file at:\nE   - /p/test_d/a.yml"
    (hint,) = hints(text, [Change("M", "/p/test_d/a.yml")])

    assert "writable=['/p/test_d']" in hint


@pytest.mark.parametrize(
    "text",
    [
        "E   assert '/p/test_d/a.yml' == 'b'",  # nobody says that it was to stay
        "E   created: /p/test_d/a.yml.bak",
        "E   created: /q/p/test_d/a.yml",
        "E   created: a file",
    ],
)
def test_any_other_failure_names_nothing(text: str) -> None:
    assert hints(text, _NEW) == []


def test_a_failure_of_a_test_that_wrote_nothing_names_nothing() -> None:
    assert hints("E   created: /p/test_d/a.yml", ()) == []
