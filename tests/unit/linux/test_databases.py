"""Which open files are databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from pytest_isolate.linux import databases


@pytest.fixture(autouse=True)
def _none_yet() -> None:
    if databases.is_one_open():
        pytest.skip("this process has one open")


def test_one_that_has_a_table_or_none_yet(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "it.db")) as connection:
        connection.execute("SELECT * FROM sqlite_master").fetchall()
        if sqlite3.sqlite_version_info >= (3, 39):
            assert databases.is_one_open()
        connection.execute("CREATE TABLE it(number)")
        assert databases.is_one_open()
    assert not databases.is_one_open()


def test_what_is_only_read_and_other_files_are_none(tmp_path: Path) -> None:
    (tmp_path / "it.db").write_bytes(b"SQLite format 3\0" + bytes(84))
    with (
        (tmp_path / "it.db").open("rb"),
        (tmp_path / "new").open("w+b"),
        (tmp_path / "log").open("w+") as log,
        TemporaryFile(),
    ):
        log.write("SQL")
        log.flush()
        assert not databases.is_one_open()
