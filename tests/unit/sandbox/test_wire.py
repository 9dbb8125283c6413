"""How messages get out of a sandbox."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_isolate.sandbox import wire


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


_PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@given(messages=st.lists(_PLAIN, max_size=5), cuts=st.lists(st.integers(1, 40), min_size=1, max_size=40))
def test_any_messages_come_out_of_any_pieces_as_they_went_in(messages: list[object], cuts: list[int]) -> None:
    """Lone surrogates, too, which output that was captured may have."""
    reader, writer = os.pipe()
    for message in messages:
        wire.send(writer, message)
    os.close(writer)
    with open(reader, "rb") as file:
        rest = file.read()
    frames = wire.Reader()
    heard: list[object] = []
    while rest:
        for size in cuts:
            heard += frames.feed(rest[:size])
            rest = rest[size:]
    assert heard == messages


@given(pieces=st.lists(st.binary(max_size=40), max_size=10))
def test_any_bytes_are_messages_or_a_value_error(pieces: list[bytes]) -> None:
    frames = wire.Reader()
    try:
        for piece in pieces:
            list(frames.feed(piece))
    except ValueError:
        pass


def test_a_frame_of_nothing_but_brackets_is_a_value_error() -> None:
    """Anything else would end the session: a test may write to the descriptor."""
    with pytest.raises(ValueError, match="nested too deeply"):
        list(wire.Reader().feed(struct.pack("=I", 100_000) + b"[" * 100_000))
