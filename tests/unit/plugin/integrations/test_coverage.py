from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_isolate.plugin.integrations.coverage import Record, _flush


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


class Collector:
    """coverage's, with what it has traced by file."""

    static_context = ""

    def __init__(self, record: Record, data: dict[str, set[Any]]) -> None:
        self.record, self.data, self.flushed = record, data, 0

    def flush_data(self) -> None:
        self.flushed += 1
        self.record.add_lines({file: places for file, places in self.data.items() if places})


def test_what_the_sandboxes_before_have_sent_is_taken_out_of_the_collector() -> None:
    known, first, second, third = Record(), Record(), Record(), Record()
    _flush(Collector(first, {"/a.py": {1, 2}, "/b.py": {1}, "/empty.py": set()}), first, known)
    known.add_plain(through_json(first))
    traced = {"/a.py": {2, 3}, "/b.py": {1}}
    collector = Collector(second, {**traced})
    _flush(collector, second, known)
    assert second.plain(known)["contexts"] == {"": {"/a.py": [3]}}
    assert collector.data["/a.py"] is traced["/a.py"], "the set that the tracer holds"

    known.add_plain(through_json(second))
    _flush(nothing_new := Collector(third, {"/a.py": {1, 2, 3}, "/b.py": {1}}), third, known)
    assert (nothing_new.flushed, third.contexts) == (0, {})
    assert known.contexts == {"": {"/a.py": {1, 2, 3}, "/b.py": {1}}}


def test_arcs_that_the_collector_keeps_as_pairs_are_taken_out_as_well() -> None:
    known, first, second = Record(), Record(), Record()
    _flush(Collector(first, {"/a.py": {(-1, 2)}}), first, known)
    first.arcs = True
    known.add_plain(through_json(first))
    _flush(collector := Collector(second, {"/a.py": {(-1, 2), (2, 3)}}), second, known)
    assert collector.data == {"/a.py": {(2, 3)}}


def test_a_test_with_a_context_of_its_own_sends_all_of_it() -> None:
    known, record = Record(), Record()
    known.raw = {"/a.py": {1}}
    record.set_context("test_1")
    _flush(Collector(record, {"/a.py": {1}}), record, known)
    assert record.plain(known)["contexts"] == {"test_1": {"/a.py": [1]}}
    assert record.raw == {}


def test_what_could_not_be_added_is_not_known_from_then_on() -> None:
    record = Record()
    collector = Collector(record, {"/a.py": {1}})
    collector.record = None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        _flush(collector, record, Record())
    assert record.raw == {}


@pytest.mark.parametrize(
    "message",
    [
        None,
        {},
        {"contexts": {"": {"/a.py": ["x"]}}, "tracers": {}, "arcs": False, "raw": {}},
        {"contexts": {"": {"/a.py": [True]}}, "tracers": {}, "arcs": False, "raw": {}},
        {"contexts": {"": {"/a.py": [10**12]}}, "tracers": {}, "arcs": False, "raw": {}},
        {"contexts": {"": {"/a.py": [1]}}, "tracers": {}, "arcs": True, "raw": {}},
        {"contexts": {"": {"/a.py": [[1, 2, 3]]}}, "tracers": {}, "arcs": True, "raw": {}},
        {"contexts": {}, "tracers": {}, "arcs": False, "raw": {"/a.py": ["x"]}},
        {"contexts": {}, "tracers": {}, "arcs": False, "raw": {"/a.py": [True]}},
        {"contexts": {}, "tracers": {}, "arcs": False, "raw": 1},
        {"contexts": {"": 1}, "tracers": {}, "arcs": True, "raw": {}},
    ],
)
def test_what_a_test_may_have_forged_is_refused(message: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        Record().add_plain(message)
