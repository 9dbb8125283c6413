"""By which descriptors of a process its forks would disturb one another."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pytest_isolate.session.shared_descriptors import Descriptor, is_shared, list_open


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _new(before: frozenset[Descriptor]) -> set[Descriptor]:
    return {each for each in list_open() - before if is_shared(each)}


def test_sockets_are_until_they_are_closed() -> None:
    before = list_open()
    one, other = socket.socketpair()
    found = _new(before)
    assert {each.number for each in found} == {one.fileno(), other.fileno()}
    one.close()
    assert {each.number for each in found if is_shared(each)} == {other.fileno()}
    other.close()
    assert not _new(before)


def test_another_file_of_the_same_number_is_not_it() -> None:
    before = list_open()
    one, other = socket.socketpair()
    (found,) = (each for each in _new(before) if each.number == one.fileno())
    with one, other, open(os.devnull) as file:
        os.dup2(file.fileno(), one.fileno())
        assert not is_shared(found)


def test_both_ends_of_a_pipe(opened: ExitStack) -> None:
    before = list_open()
    ends = os.pipe()
    for end in ends:
        opened.callback(os.close, end)
    assert {each.number for each in _new(before)} == {*ends}


@pytest.mark.parametrize("mode", ["rb", "wb", "ab", "r+b"])
def test_a_file_whose_offset_all_have(opened: ExitStack, tmp_path: Path, mode: str) -> None:
    (tmp_path / "file").touch()
    before = list_open()
    file = opened.enter_context((tmp_path / "file").open(mode))
    assert {each.number for each in _new(before)} == {file.fileno()}
    file.close()
    assert not _new(before)


def test_a_file_without_a_name() -> None:
    before = list_open()
    with tempfile.TemporaryFile() as file:
        assert {each.number for each in _new(before)} == {file.fileno()}


def test_no_device_no_folder_and_no_memory(opened: ExitStack, tmp_path: Path) -> None:
    before = list_open()
    for number in (os.open("/dev/zero", os.O_RDONLY), os.open(tmp_path, os.O_RDONLY), os.memfd_create("as ours")):
        opened.callback(os.close, number)
    assert not _new(before)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET], ids=["that listens", "as ours"])
def test_no_socket(opened: ExitStack, kind: int) -> None:
    before = list_open()
    made = opened.enter_context(socket.socket(socket.AF_UNIX, kind))
    if kind == socket.SOCK_STREAM:
        assert _new(before)
        made.bind(b"\0pytest-isolate test of descriptors %d" % os.getpid())
        made.listen()
    assert not _new(before)
