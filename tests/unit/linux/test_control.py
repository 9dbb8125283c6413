from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from unittest import mock

import pytest

from pytest_isolate.linux.control import Control


@pytest.fixture
def control() -> Iterator[Control]:
    with mock.patch("socket.socket"), mock.patch("socket.socketpair"):  # it uses neither
        control = Control()
    yield control
    control.close()


def test_a_message_comes_whole_with_its_descriptors(control: Control) -> None:
    reader, writer = os.pipe()
    control.send(b"to them", [reader, writer], seconds=1)
    with socket.socket(fileno=os.dup(control.theirs.fileno())) as theirs:
        message, descriptors, _, _ = socket.recv_fds(theirs, 100, 9)
        assert (message, len(descriptors)) == (b"to them", 2)
        socket.send_fds(theirs, [b"to us"], descriptors)
    message, fds, whole = control.receive(100, 9, seconds=1)
    assert (message, len(fds), whole) == (b"to us", 2, True)
    assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in fds)
    os.write(fds[1], b"x")
    assert os.read(fds[0], 9) == b"x"
    for fd in (reader, writer, *descriptors, *fds):
        os.close(fd)


def test_the_end_of_the_other_side_is_an_empty_message(control: Control) -> None:
    control.theirs.close()
    assert control.receive(100, seconds=1) == (b"", [], True)
    with pytest.raises(BrokenPipeError):
        control.send(b"x", seconds=1)


def test_nobody_waits_for_ever(control: Control) -> None:
    with pytest.raises(TimeoutError):
        control.receive(100, seconds=0.01)

    def fill() -> None:
        while True:
            control.send(b"unread", seconds=0.01)

    with pytest.raises(TimeoutError):
        fill()


def test_descriptors_without_room_are_told(control: Control) -> None:
    with socket.socket(fileno=os.dup(control.theirs.fileno())) as theirs:
        socket.send_fds(theirs, [b"x"], [0, 1, 2, 0, 1, 2])
    _, fds, whole = control.receive(100, 1, seconds=1)
    assert not whole
    for fd in fds:
        os.close(fd)
