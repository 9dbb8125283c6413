"""Places of an exception as plain data, and tracebacks that show them."""

from __future__ import annotations

import faulthandler
import tempfile
import traceback

import pytest

from pytest_isolate import frames, guest


def fails() -> None:
    raise LookupError


def hidden() -> None:
    __tracebackhide__ = True
    fails()


def test_a_traceback_leads_through_the_same_places_but_those_that_are_hidden() -> None:
    with pytest.raises(LookupError) as caught:
        hidden()

    shown = traceback.extract_tb(frames.traceback_of(frames.places(caught.value)))

    assert [(entry.name, entry.line) for entry in shown] == [
        ("test_a_traceback_leads_through_the_same_places_but_those_that_are_hidden", "hidden()"),
        ("fails", "raise LookupError"),
    ]


def test_no_places_make_no_traceback() -> None:
    assert frames.traceback_of([]) is None
    assert frames.places(LookupError()) == []


def test_the_current_thread_of_a_dump_is_read_outermost_frame_first() -> None:
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        dump = file.read()

    _, _, name = frames.places_of_dump('Thread 0x01 (most recent call first):\n  File "x.py", line 1 in f\n\n' + dump)[
        -1
    ]

    assert name == "test_the_current_thread_of_a_dump_is_read_outermost_frame_first"
    assert frames.places_of_dump("") == []


def test_of_the_frames_outside_of_a_test_a_dump_has_the_number() -> None:
    def frame(path: str, name: str) -> str:
        return f'  File "{path}", line 1 in {name}'

    own = [frame("/lib/queue.py", "get"), frame("/project/test_it.py", "test_it")]
    outside = [frame("/lib/pytest/runner.py", "call"), frame(guest.__file__, "run"), frame("/bin/pytest", "<module>")]
    head, thread = "Current thread 0x01 (most recent call first):", [frame("/lib/pytest/thread.py", "run")]
    dump = "\n".join(
        ["Thread 0x02 (most recent call first):", *thread, "", head, *own, *outside, "", "Extension modules: x"]
    )

    shown = frames.shortened(dump, ["/lib/pytest"])

    assert shown.splitlines()[2:] == [
        "",
        head,
        *own,
        "  ... 3 frames of pytest; --full-trace shows them",
        "",
        "Extension modules: x",
    ]
    assert frames.shortened("Thread 0x02", ["/lib/pytest"]) == "Thread 0x02"


@pytest.mark.parametrize(
    "forged", [f'  File "{guest.__file__}", line 1 in run', 'Current thread\n  File "x", line 99999999999 in f']
)
def test_a_dump_that_a_test_has_forged_is_no_error(forged: str) -> None:
    assert "guest" not in frames.shortened(f'  File "/lib/pytest/x.py", line 1 in f\n{forged}', ["/lib/pytest"])
    assert frames.places_of_dump(forged) == []
