"""Reports of one test, which pytest keeps to the end of the session."""

from __future__ import annotations

import json
import os
from typing import Literal

import pytest

from pytest_isolate.plugin import serialize


def report(when: Literal["setup", "call"], *, name: str = "test_it") -> pytest.TestReport:
    nodeid = f"test_it.py::{name}"
    return pytest.TestReport(nodeid, ("test_it.py", 300, name), {name: 1}, "passed", None, when)


def test_reports_of_a_test_share_what_is_alike() -> None:
    first, second = report("setup"), report("call")
    assert second.keywords is not first.keywords

    serialize.share(second, first)

    assert second.keywords is first.keywords
    assert second.location is first.location
    assert second.when == "call"


def test_what_differs_stays_as_it_is() -> None:
    first, second = report("setup"), report("call", name="test_other")

    serialize.share(second, first)

    assert second.nodeid == "test_it.py::test_other"
    assert second.keywords == {"test_other": 1}
    assert second.location == ("test_it.py", 300, "test_other")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("café €", "café €"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("half of \ud83d", r"half of \ud83d"),
    ],
)
def test_text_is_shown_so_that_utf_8_can_carry_it(text: str, shown: str) -> None:
    assert serialize.printable(text) == shown
    assert serialize.plain({text: (text, [text])}) == {shown: [shown, [shown]]}
    shown.encode()


def test_a_value_whose_class_cannot_be_hashed_becomes_its_text() -> None:
    class Meta(type):
        __hash__ = None  # type: ignore[assignment]

    class Odd(metaclass=Meta):
        def __str__(self) -> str:
            return "odd"

    value = Odd()
    assert serialize.plain([value, {"key": value}]) == ["odd", {"key": "odd"}]


def test_a_subclass_of_str_becomes_a_plain_one() -> None:
    class Own(str):
        __slots__ = ()

    assert type(serialize.plain(Own("text"))) is str


def forged(request: pytest.FixtureRequest, **fields: object) -> pytest.TestReport:
    """The report that is made of what a test has sent under its own name."""
    item = request.node
    sent = {
        "$report_type": "TestReport", "nodeid": item.nodeid, "location": [*item.location], "keywords": {},
        "when": "call", "outcome": "passed", "longrepr": None, "sections": [], "user_properties": [], "duration": 1,
    }  # fmt: skip
    return serialize.unpack(item, {**sent, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"outcome": "failed", "longrepr": "\ud800"}, id="a reason that no file can have"),
        pytest.param({"location": []}, id="no place"),
        pytest.param({"location": ["a", "b", "c"]}, id="no line"),
        pytest.param({"keywords": None}, id="no keywords"),
        pytest.param({"when": "never"}, id="no phase"),
        pytest.param({"sections": [1]}, id="no sections"),
    ],
)
def test_a_report_that_pytest_could_not_show_is_none(request: pytest.FixtureRequest, fields: dict[str, object]) -> None:
    """What it raised then would end the session."""
    assert forged(request).passed
    with pytest.raises((TypeError, ValueError)):
        forged(request, **fields)


def test_a_traceback_that_is_none_is_no_report(request: pytest.FixtureRequest) -> None:
    crash = {"path": "f.py", "lineno": 3, "message": "m"}
    lines: dict[str, object] = {
        "lines": ["E   why"],
        "reprfuncargs": None,
        "reprfileloc": None,
        "reprlocals": None,
        "style": "long",
    }
    entry = {"type": "ReprEntry", "data": lines}
    trace = {"reprentries": [entry], "extraline": None, "style": "long"}
    shown = {"reprcrash": crash, "reprtraceback": trace, "sections": [], "chain": [(trace, crash, None)]}

    def failed(**changes: object) -> pytest.TestReport:
        return forged(request, outcome="failed", longrepr=json.loads(json.dumps({**shown, **changes})))

    assert "why" in failed().longreprtext
    lines["lines"] = True
    with pytest.raises(TypeError):
        failed()
    lines["lines"] = ["E   why"]
    with pytest.raises(TypeError):
        failed(reprcrash={**crash, "message": 5}, chain=[(trace, {**crash, "message": 5}, None)])


def test_a_failure_of_a_plugins_making_may_have_no_reason(request: pytest.FixtureRequest) -> None:
    """The terminal shows none, in a plain run as well; junitxml would end the session without a text."""
    assert forged(request, outcome="failed").longrepr == ""


def test_why_a_test_was_skipped_has_pytests_form_whatever_was_sent(request: pytest.FixtureRequest) -> None:
    assert forged(request, outcome="skipped", longrepr=["f.py", 3, "why"]).longrepr == ("f.py", 3, "why")
    path, line, _ = request.node.location
    assert forged(request, outcome="skipped", longrepr=["why"]).longrepr == (path, line, "('why',)")
    assert forged(request, outcome="skipped", wasxfail=None).wasxfail == "None"


OTHERS: dict[str, object] = {
    "lines": {"test_it.py": {1, 2}, 3: frozenset({4})},
    "pair": (1, ["two", (3,)]),
    "named": ["list", ["dict", []]],
    "empty": {},
}


def test_what_plugins_add_to_a_report_has_the_types_that_it_had(request: pytest.FixtureRequest) -> None:
    assert vars(through_json(request, **OTHERS)).items() >= OTHERS.items()


def test_of_what_no_message_can_carry_the_text_arrives(request: pytest.FixtureRequest) -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd"

    assert vars(through_json(request, odd=Odd(), more={Odd: Odd()}))["more"][str(Odd)] == "odd"


@pytest.mark.parametrize(
    "others",
    [
        pytest.param(["dict", [["tuple", ["outcome", "won"]]]], id="another outcome"),
        pytest.param(["dict", [["tuple", ["nodeid", "test_it.py::test_other"]]]], id="another test"),
        pytest.param(["dict", [["tuple", ["location", None]]]], id="no place"),
        pytest.param(["open", ["/etc/passwd"]], id="no kind"),
        pytest.param(["set", [["list", []]]], id="no set"),
    ],
)
def test_what_is_forged_there_passes_no_check_by(request: pytest.FixtureRequest, others: object) -> None:
    assert forged(request, isolate_others=[["dict", []]]).passed
    with pytest.raises((ValueError, KeyError, TypeError)):
        forged(request, isolate_others=[others])


def own_report(request: pytest.FixtureRequest) -> pytest.TestReport:
    item = request.node
    return pytest.TestReport(item.nodeid, item.location, {}, "passed", None, "call")


def through_json(request: pytest.FixtureRequest, **others: object) -> pytest.TestReport:
    """A report of this test, which has these attributes as well."""
    report = own_report(request)
    vars(report).update(others)
    return serialize.unpack(request.node, json.loads(json.dumps(serialize.pack(request.config, report))))
