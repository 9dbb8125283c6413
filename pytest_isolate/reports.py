"""Reports and warnings as plain data and back, and the reports that only the outside can make.

What comes out of a sandbox is data that a test may have forged: it is rebuilt through pytest's own hooks, and no class
is ever imported because a message names it.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import warnings
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_isolate import plugins

if TYPE_CHECKING:
    from pytest_isolate.outcome import Change, Outcome

Phase = Literal["setup", "call", "teardown"]

#: How a phase is called in sentences.
PHASE_NAMES: dict[Phase, str] = {"setup": "set-up", "call": "the call", "teardown": "tear-down"}

_STREAMS = ("stdout", "stderr", "log")
_SHOWN_CHANGES = 200
_COMMON = {"_id", "nodeid", "location", "keywords"}  # attributes; _id: what 9.2 has in place of nodeid


def plain(value: object) -> object:
    """``value`` with everything that JSON and execnet cannot carry as its ``str``, as junitxml would write it.

    Subclasses of plain types (``numpy.float64``, an ``IntEnum``) become the plain type: execnet refuses them.
    """
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return value if type(value) is kind else kind(value)
    if isinstance(value, dict):
        return {key if type(key) is str else _text(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return _text(value)


def _text(value: object) -> str:
    """``str(value)``, of any object."""
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a property's own __str__ must not fail the test
        return f"<unprintable {type(value).__name__}: {type(error).__name__}>"


def pack(config: pytest.Config, report: pytest.TestReport) -> object:
    """The report as plain data."""
    return plain(config.hook.pytest_report_to_serializable(config=config, report=report))


def unpack(item: pytest.Item, data: Any, *, more_outcomes: Collection[str] = ()) -> pytest.TestReport:
    """The report of ``item`` that :func:`pack` was given.

    :param more_outcomes: what it may have as outcome beside pytest's own.
    :raises Exception: of any kind, from pytest's or another plugin's hook, if ``data`` is no report.
    """
    if isinstance(data["longrepr"], list):  # of a skip: JSON has no tuples, and terminal and junitxml unpack this one
        data["longrepr"] = tuple(data["longrepr"])
    data["location"] = tuple(data["location"])
    if data["outcome"] not in {"passed", "failed", "skipped", *more_outcomes}:
        raise ValueError(data["outcome"])
    for name in ("duration", "start", "stop"):
        if name in data:  # 8.0 has the times too, older report types of plugins may not
            data[name] = float(data[name])
    data["sections"] = merged([(str(name), str(text)) for name, text in data["sections"]])
    data["user_properties"] = [(str(name), value) for name, value in data["user_properties"]]
    context = data.get("_subtest.context")
    shown = {} if context is None else {**context["kwargs"]}
    config = item.config
    report: pytest.TestReport | None = config.hook.pytest_report_from_serializable(config=config, data=data)
    if report is None or report.when not in PHASE_NAMES or report.nodeid != item.nodeid:
        msg = "it is no report of this test"
        raise ValueError(msg)
    if shown:  # pytest 9.0 to 9.2 take the repr of a sub-test's parameters again: (i='1') for i=1
        report.context.kwargs.update(shown)
    return report


def share(report: pytest.TestReport, earlier: pytest.TestReport) -> None:
    """Let a report have what another of the same test has, too, in common with it: pytest keeps all to the end."""
    own, others = vars(report), vars(earlier)
    for name in _COMMON & own.keys() & others.keys():
        if own[name] == others[name]:
            own[name] = others[name]


def merged(sections: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Sections of the same name as one, in pytest's order.

    A phase that ran partly outside and partly inside has its output in two pieces; a plain run shows one.
    """
    texts: dict[str, str] = {}
    for name, text in sections:
        before = texts.get(name, "")
        if before and name.startswith("Captured log"):
            before += "\n"  # the log plugin strips the end of each piece
        texts[name] = before + text
    return sorted(texts.items(), key=lambda section: _place(section[0]))


def _place(name: str) -> tuple[int, int]:
    """Where a section stands: by phase, then by stream; what is no captured stream last."""
    match name.split(" "):
        case ["Captured", stream, phase] if phase in PHASE_NAMES:
            return [*PHASE_NAMES].index(phase), _STREAMS.index(stream) if stream in _STREAMS else len(_STREAMS)
    return len(PHASE_NAMES), 0


def add_section(report: pytest.TestReport, name: str, text: str) -> None:
    """Add ``text`` to the report unless it is empty."""
    if text:
        report.sections = merged([*report.sections, (name, text)])


def pack_warning(record: warnings.WarningMessage) -> dict[str, object]:
    """A recorded warning as plain data."""
    return {
        "module": record.category.__module__,
        "name": record.category.__qualname__,
        "message": _text(record.message),
        "filename": record.filename,
        "lineno": record.lineno,
    }


def unpack_warning(data: Any, *, controlled: bool) -> warnings.WarningMessage:
    """The warning that :func:`pack_warning` was given.

    Its class is used where this process has it loaded already and can make an instance that reads the same; else one of
    that name is made up. ``controlled``: an xdist controller will import the class by name, and dies if it can't; then
    only installed classes are used, as test modules are not importable there, and a plain ``Warning`` carries the name
    of any other.
    """
    text, name = str(data["message"]), str(data["name"])
    kind = _warning_class(str(data["module"]), name, controlled=controlled)
    message = None if kind is None else _warning_that_reads(kind, text)
    if message is None and controlled:
        message = Warning(f"{name}: {text}")
    elif message is None:
        message = type(name.rpartition(".")[2], (Warning,), {})(text)
    return warnings.WarningMessage(message, type(message), str(data["filename"]), int(data["lineno"]))


def _warning_class(module_name: str, name: str, *, controlled: bool) -> type[Warning] | None:
    module = sys.modules.get(module_name)
    kind = getattr(module, name, None)  # a dotted name (a local class) finds nothing, as it should
    if module is None or not isinstance(kind, type) or not issubclass(kind, Warning):
        return None
    if controlled and module_name.partition(".")[0] not in sys.stdlib_module_names:
        installed = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
        if not (getattr(module, "__file__", None) or "").startswith(installed):
            return None
    return kind


def _warning_that_reads(kind: type[Warning], text: str) -> Warning | None:
    message = kind.__new__(kind)  # not kind(text): a class of the user's may want other arguments
    message.args = (text,)
    return message if _text(message) == text else None


def call_of(when: Phase, body: Callable[..., object], /, **arguments: object) -> pytest.CallInfo[object]:
    """A phase whose body is ``body``; ``pytest.exit`` and Ctrl-C pass through."""
    # The frame of the lambda is not hidden: of a failure with no frame left, 9.2 says that "all traceback entries are
    # hidden".
    reraise = (pytest.exit.Exception, KeyboardInterrupt)
    return pytest.CallInfo.from_call(lambda: body(**arguments), when=when, reraise=reraise)


def report_of(item: pytest.Item, when: Phase, body: Callable[..., object], /, **arguments: object) -> pytest.TestReport:
    """The report of a phase whose body is ``body``."""
    return made(item, call_of(when, body, **arguments))


def made(item: pytest.Item, call: pytest.CallInfo[Any]) -> pytest.TestReport:
    """The report that pytest makes of a phase which was run out here."""
    report: Any = plugins.own_hook(item.config, "pytest_runtest_makereport")(item=item, call=call)
    assert isinstance(report, pytest.TestReport)
    return report


def passed(item: pytest.Item, when: Phase) -> pytest.TestReport:
    """A report of a phase that passed, or that never came to an end of its own."""
    return report_of(item, when, lambda: None)


def failed(item: pytest.Item, when: Phase, message: str) -> pytest.TestReport:
    """A report of a phase that failed for ``message``, located at the test; xfail marks apply."""
    report = report_of(item, when, pytest.fail, reason=message, pytrace=False)
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:  # without this --tb=line and the like would point at this file
        path, line, _ = item.reportinfo()
        crash.path, crash.lineno = os.fspath(path), (line or 0) + 1
    return report


def sandbox_error(item: pytest.Item, message: str) -> pytest.TestReport:
    """An *error* in set-up: no verdict about the test, hence never an expected failure."""
    report = failed(item, "setup", message)
    report.outcome = "failed"
    vars(report).pop("wasxfail", None)
    return report


def skipped(item: pytest.Item, reason: str) -> pytest.TestReport:
    """A skip in set-up, located at the test."""
    report = report_of(item, "setup", pytest.skip, reason=reason)
    path, line, _ = item.reportinfo()
    report.longrepr = (os.fspath(path), (line or 0) + 1, f"Skipped: {reason}")
    return report


def changes_text(changes: tuple[Change, ...]) -> str:
    """The changed files, one per line: ``D /etc``."""
    lines = [f"{change.kind} {change.path}" for change in changes[:_SHOWN_CHANGES]]
    if len(changes) > _SHOWN_CHANGES:
        lines.append(f"... and {len(changes) - _SHOWN_CHANGES} more")
    return "\n".join(lines)


def properties(outcome: Outcome) -> list[tuple[str, object]]:
    """What the run adds to ``user_properties``."""
    pairs = outcome.usage.properties()
    if outcome.pids_denied:
        pairs.append(("isolate_pids_denied", outcome.pids_denied))
    if outcome.degraded:
        text = "; ".join(f"{key}: {reason.replace('; ', ', ')}" for key, reason in outcome.degraded)
        pairs.append(("isolate_degraded", text))
    return pairs
