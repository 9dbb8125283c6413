"""Places of an exception as plain data, and tracebacks that show them."""

from __future__ import annotations

import faulthandler
import tempfile
import traceback
from pathlib import Path

import pytest

from pytest_isolate.plugin.report import tracebacks
from pytest_isolate.sandbox import child


def fails() -> None:
    raise LookupError


def hidden() -> None:
    __tracebackhide__ = True
    fails()


def test_a_traceback_leads_through_the_same_places_but_those_that_are_hidden() -> None:
    with pytest.raises(LookupError) as caught:
        hidden()

    shown = traceback.extract_tb(tracebacks.make_traceback(tracebacks.places(caught.value)))

    assert [(entry.name, entry.line) for entry in shown] == [
        ("test_a_traceback_leads_through_the_same_places_but_those_that_are_hidden", "hidden()"),
        ("fails", "raise LookupError"),
    ]


def test_no_places_make_no_traceback() -> None:
    assert tracebacks.make_traceback([]) is None
    assert tracebacks.places(LookupError()) == []


def test_the_current_thread_of_a_dump_is_read_outermost_frame_first() -> None:
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        dump = file.read()

    _, _, name = tracebacks.places_of_dump(
        'Thread 0x01 (most recent call first):\n  File "x.py", line 1 in f\n\n' + dump
    )[-1]

    assert name == "test_the_current_thread_of_a_dump_is_read_outermost_frame_first"
    assert tracebacks.places_of_dump("") == []


def test_of_several_dumps_the_last_one_counts_and_none_of_c_stacks() -> None:
    dump = """
Current thread 0x01 (most recent call first):
  File "child.py", line 1 in f

Current thread 0x02 [pytest] (most recent call first):
  File "test_it.py", line 2 in g

Current thread's C stack trace (most recent call first):
  Binary file "x.so", at f+0x1
"""
    assert tracebacks.places_of_dump(dump) == [("test_it.py", 2, "g")]


SOURCE = """\
@decorated
@twice
def outer():
    def inner(): pass
    async def outer():
        pass
"""


def test_a_function_is_found_by_a_line_of_it(tmp_path: Path) -> None:
    file = tmp_path / "source.py"
    file.write_text(SOURCE)
    path = str(file)
    assert tracebacks.find_function(path, 1) == (1, (path, 3, "outer"))
    assert tracebacks.find_function(path, 4) == (4, (path, 4, "inner"))
    assert tracebacks.find_function(path, 4, "outer") == (1, (path, 3, "outer"))
    assert tracebacks.find_function(path, 6, "outer") == (5, (path, 5, "outer"))
    assert tracebacks.find_function(path, 6, "<lambda>") is None
    assert tracebacks.find_function(path, 7) is None


@pytest.mark.parametrize("content", [b"", b"{", b"\0", b"\xff", b"(" * 1000])
def test_what_is_no_python_has_no_function(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file.yaml"
    file.write_bytes(content)
    assert tracebacks.find_function(str(file), 1) is None
    assert tracebacks.find_function(str(tmp_path / "missing.py"), 1) is None


def test_of_the_frames_outside_of_a_test_a_dump_has_the_number() -> None:
    def frame(path: str, name: str) -> str:
        return f'  File "{path}", line 1 in {name}'

    own = [frame("/lib/queue.py", "get"), frame("/project/test_it.py", "test_it")]
    outside = [frame("/lib/pytest/runner.py", "call"), frame(child.__file__, "run"), frame("/bin/pytest", "<module>")]
    head, thread = "Current thread 0x01 (most recent call first):", [frame("/lib/pytest/thread.py", "run")]
    dump = "\n".join(
        ["Thread 0x02 (most recent call first):", *thread, "", head, *own, *outside, "", "Extension modules: x"]
    )

    shown = tracebacks.shorten(dump, ["/lib/pytest"])

    assert shown.splitlines()[2:] == [
        "",
        head,
        *own,
        "  ... 3 frames of pytest; --full-trace shows them",
        "",
        "Extension modules: x",
    ]
    assert tracebacks.shorten("Thread 0x02", ["/lib/pytest"]) == "Thread 0x02"


@pytest.mark.parametrize(
    "forged", [f'  File "{child.__file__}", line 1 in run', 'Current thread\n  File "x", line 99999999999 in f']
)
def test_a_dump_that_a_test_has_forged_is_no_error(forged: str) -> None:
    assert "guest" not in tracebacks.shorten(f'  File "/lib/pytest/x.py", line 1 in f\n{forged}', ["/lib/pytest"])
    assert tracebacks.places_of_dump(forged) == []
