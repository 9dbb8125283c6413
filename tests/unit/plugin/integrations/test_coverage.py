from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_isolate.plugin.integrations.coverage import Record


def through_json(record: Record) -> Any:
    return json.loads(json.dumps(record.plain()))


def test_a_record_comes_out_as_it_went_in() -> None:
    record = Record()
    record.set_context("test_1")
    record.add_arcs({"/a.py": [(-1, 2), (2, -1)]})
    assert record.set_context(None) == "test_1"
    record.add_arcs({"/a.py": [(2, 3)], "/b.html": {(1, 1)}})
    record.add_file_tracers({"/b.html": "templates"})

    again = Record()
    again.add_plain(through_json(record))

    assert again.contexts == {
        "test_1": {"/a.py": {(-1, 2), (2, -1)}},
        "": {"/a.py": {(2, 3)}, "/b.html": {(1, 1)}},
    }
    assert again.tracers == {"/b.html": "templates"}
    assert again.arcs


def test_lines_of_several_tests_add_up() -> None:
    both = Record()
    for lines in ([1, 2], [2, 3]):
        record = Record()
        record.add_lines({"/a.py": lines})
        both.add_plain(through_json(record))
    assert both.contexts == {"": {"/a.py": {1, 2, 3}}}
    assert not both.arcs


def test_what_is_known_is_left_out() -> None:
    known, record = Record(), Record()
    known.add_lines({"/a.py": [1, 2], "/b.py": [1], "/other.py": [9]})
    record.add_lines({"/a.py": [2, 3], "/b.py": [1], "/empty.py": []})

    assert through_json(record)["contexts"] == {"": {"/a.py": [2, 3], "/b.py": [1], "/empty.py": []}}
    assert record.plain(known)["contexts"] == {"": {"/a.py": [3], "/empty.py": []}}
    record.set_context("test_1")
    record.add_lines({"/a.py": [1]})
    assert record.plain(known)["contexts"] == {"": {"/a.py": [3], "/empty.py": []}, "test_1": {"/a.py": [1]}}


@pytest.mark.parametrize(
    "message",
    [
        None,
        {},
        {"contexts": {"": {"/a.py": ["x"]}}, "tracers": {}, "arcs": False},
        {"contexts": {"": {"/a.py": [True]}}, "tracers": {}, "arcs": False},
        {"contexts": {"": {"/a.py": [10**12]}}, "tracers": {}, "arcs": False},
        {"contexts": {"": {"/a.py": [1]}}, "tracers": {}, "arcs": True},
        {"contexts": {"": {"/a.py": [[1, 2, 3]]}}, "tracers": {}, "arcs": True},
        {"contexts": {"": 1}, "tracers": {}, "arcs": True},
    ],
)
def test_what_a_test_may_have_forged_is_refused(message: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        Record().add_plain(message)
