"""Which sockets and pipes of a process its forks could take data from."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pytest_isolate.session.connections import Connection, is_open, list_connections


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _new(before: frozenset[Connection]) -> set[Connection]:
    return {each for each in list_connections() - before if is_open(each)}


def test_sockets_are_until_they_are_closed() -> None:
    before = list_connections()
    one, other = socket.socketpair()
    found = _new(before)
    assert {each.descriptor for each in found} == {one.fileno(), other.fileno()}
    one.close()
    assert {each.descriptor for each in found if is_open(each)} == {other.fileno()}
    other.close()
    assert not _new(before)


def test_another_file_of_the_same_number_is_not_it() -> None:
    before = list_connections()
    one, other = socket.socketpair()
    (found,) = (each for each in _new(before) if each.descriptor == one.fileno())
    with one, other, open(os.devnull) as file:
        os.dup2(file.fileno(), one.fileno())
        assert not is_open(found)


def test_of_a_pipe_only_the_end_that_is_read_from(opened: ExitStack) -> None:
    before = list_connections()
    ends = os.pipe()
    for end in ends:
        opened.callback(os.close, end)
    assert {each.descriptor for each in _new(before)} == {ends[0]}


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET], ids=["that listens", "as ours"])
def test_no_socket(opened: ExitStack, kind: int) -> None:
    before = list_connections()
    made = opened.enter_context(socket.socket(socket.AF_UNIX, kind))
    if kind == socket.SOCK_STREAM:
        assert _new(before)
        made.bind(b"\0pytest-isolate test of connections %d" % os.getpid())
        made.listen()
    assert not _new(before)
