"""How messages get out of a sandbox."""

from __future__ import annotations

import os

import pytest

from pytest_isolate import wire


def _non_blocking_pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    return reader, writer


def test_a_message_longer_than_the_pipe_arrives_whole_once_somebody_reads() -> None:
    reader, writer = _non_blocking_pipe()
    message = "x" * 200_000
    frames = wire.Reader()
    heard: list[object] = []

    def read() -> None:
        heard.extend(frames.feed(os.read(reader, 1 << 20)))

    wire.send(writer, message, read)
    read()
    assert heard == [message]


def test_without_anybody_to_tell_a_full_pipe_is_an_error() -> None:
    _, writer = _non_blocking_pipe()
    with pytest.raises(BlockingIOError):
        wire.send(writer, "x" * 200_000)
