"""Reports and warnings as plain data, for the way out of a sandbox, and made of it again.

What comes out of a sandbox is data that a test may have forged: it is rebuilt through pytest's own hooks, and no class
is ever imported because a message names it.
"""

from __future__ import annotations

import re
import sys
import sysconfig
import warnings
from collections.abc import Collection, Iterable
from typing import Any

import pytest

from pytest_isolate.plugin import containers, rendered
from pytest_isolate.plugin.phases import PHASE_NAMES

_STREAMS = ("stdout", "stderr", "log")
_COMMON = {"_id", "nodeid", "location", "keywords"}  # attributes; _id: what 9.2 has in place of nodeid
#: What says which test a report is of: of a file whose name is no UTF-8, as pytest has it.
_IDENTITY = ("nodeid", "location")
#: Types that JSON and execnet carry. Most of a report is of these, or text in ASCII; to ask no more than that of each
#: value spares 200 calls of 1150 in the child of an empty test. By identity, as a metaclass may forbid to hash a class.
_AS_IT_IS = frozenset(map(id, (type(None), bool, int, float)))
#: Attributes of pytest's reports, as its hook names them. What other plugins add may be of any type.
_OWN = frozenset({
    *_COMMON, "outcome", "longrepr", "when", "user_properties", "sections", "duration", "start", "stop", "result",
    "wasxfail", "$report_type", "_report_type", "_subtest.description", "_subtest.context",
})  # fmt: skip
_SHOWN = "isolate_shown"  #: in a packed report
_OTHERS = "isolate_others"  #: the same: attributes that other plugins have added
_SURROGATE = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    r"""``text`` as execnet, junitxml and files in UTF-8 can carry it: ``\xff`` for a byte that is none, ``\udfff``.

    Names of files, command lines and environment variables may hold such bytes (PEP 383).
    """
    return text if text.isascii() else _SURROGATE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code & 0xFF:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"  # noqa: PLR2004 - surrogateescape's


def plain(value: object) -> object:
    """``value`` with everything that JSON and execnet cannot carry as its ``str``, as junitxml would write it.

    Subclasses of plain types (``numpy.float64``, an ``IntEnum``) become the plain type: execnet refuses them. Text
    becomes :func:`printable`.
    """
    kind = type(value)
    if id(kind) in _AS_IT_IS:
        return value
    if isinstance(value, str):
        return value if kind is str and value.isascii() else printable(str(value))
    if isinstance(value, dict):
        return {
            (key if type(key) is str and key.isascii() else text_of(key)): (
                entry if id(type(entry)) in _AS_IT_IS else plain(entry)
            )
            for key, entry in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    for plain_kind in (int, float):
        if isinstance(value, plain_kind):
            return plain_kind(value)
    return text_of(value)


def text_of(value: object) -> str:
    """``str(value)``, of any object, :func:`printable`."""
    try:
        return printable(str(value))
    except Exception as error:  # noqa: BLE001 - a property's own __str__ must not fail the test
        return f"<unprintable {type(value).__name__}: {type(error).__name__}>"


def pack(config: pytest.Config, report: pytest.TestReport) -> object:
    """The report as plain data."""
    data = config.hook.pytest_report_to_serializable(config=config, report=report)
    if others := {name: data.pop(name) for name in data.keys() - _OWN if not _is_plain(data[name])}:
        data[_OTHERS] = [containers.named(others, plain)]
    if report.failed and (shown := rendered.render(report.longrepr)) is not None:
        data[_SHOWN] = shown
    return plain(data) | {name: data[name] for name in _IDENTITY if name in data}  # type: ignore[operator] # a dict


def _is_plain(value: object) -> bool:
    return isinstance(value, str) or id(type(value)) in _AS_IT_IS


def unpack(item: pytest.Item, data: Any, *, more_outcomes: Collection[str] = ()) -> pytest.TestReport:
    """Make the report of ``item`` again, of what :func:`pack` made.

    :param more_outcomes: what it may have as outcome beside pytest's own.
    :raises Exception: of any kind, from pytest's or another plugin's hook, if ``data`` is no report.
    """
    for others in data.pop(_OTHERS, ()):
        data.update(containers.made(others))
    if isinstance(data["longrepr"], list):  # of a skip: JSON has no tuples, and terminal and junitxml unpack this one
        data["longrepr"] = tuple(data["longrepr"])
    data["location"] = tuple(data["location"])
    if data["outcome"] not in {"passed", "failed", "skipped", *more_outcomes}:
        raise ValueError(data["outcome"])
    for name in ("duration", "start", "stop"):
        if name in data:  # 8.0 has the times too, older report types of plugins may not
            data[name] = float(data[name])
    data["sections"] = merge([(text_of(name), text_of(text)) for name, text in data["sections"]])
    data["user_properties"] = [(text_of(name), plain(value)) for name, value in data["user_properties"]]
    look = data.pop(_SHOWN, None)
    context = data.get("_subtest.context")
    shown = {} if context is None else {**context["kwargs"]}
    config = item.config
    report: pytest.TestReport | None = config.hook.pytest_report_from_serializable(config=config, data=data)
    if report is None or report.when not in PHASE_NAMES or report.nodeid != item.nodeid:
        msg = "it is no report of this test"
        raise ValueError(msg)
    if hasattr(item, "_id"):  # 9.2 has parsed the text for the report, and would show [a]b as [a]b]
        report._id = item._id
    if look is not None and isinstance(report.longrepr, str):
        report.longrepr = rendered.Rendered(*map(text_of, look))  # type: ignore[assignment] # shows as one
    _check(report)
    if shown:  # pytest 9.0 to 9.2 take the repr of a sub-test's parameters again: (i='1') for i=1
        report.context.kwargs.update(shown)
    return report


def _check(report: pytest.TestReport) -> None:
    """See that pytest and junitxml can show it: what they raise would end the session.

    :raises Exception: of any kind, if they cannot.
    """
    match report.location:
        case (str(), int() | None, str()):
            pass
        case place:
            raise ValueError(f"location={place!r}")
    if not isinstance(report.keywords, dict):
        raise TypeError(f"keywords={report.keywords!r}")
    if hasattr(report, "wasxfail"):
        report.wasxfail = text_of(report.wasxfail)
    elif report.skipped:
        report.longrepr = _reason(report)
    if report.failed and report.longrepr is None:  # of a plugin that made a failure of it: junitxml demands one
        report.longrepr = ""
    if report.longrepr is not None:
        _check_longrepr(report.longrepr)


def _reason(report: pytest.TestReport) -> tuple[str, int, str]:
    """Why it was skipped, in pytest's form, whatever another plugin has made of it."""
    path, line, _ = report.location
    match report.longrepr:
        case (str(path), int(line), str(why)):
            return printable(path), line, printable(why)
        case other:
            return path, line or 0, text_of(other)


def _check_longrepr(longrepr: Any) -> None:
    str(longrepr).encode()  # as it will be shown
    if (crash := getattr(longrepr, "reprcrash", None)) is not None:
        f"{crash.path + crash.message}{crash.lineno + 0}".encode()


def share(report: pytest.TestReport, earlier: pytest.TestReport) -> None:
    """Let a report share its equal parts with an earlier one of the same test: pytest keeps all reports to the end."""
    own, others = vars(report), vars(earlier)
    for name in _COMMON & own.keys() & others.keys():
        if own[name] == others[name]:
            own[name] = others[name]


def merge(sections: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
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


def pack_warning(record: warnings.WarningMessage) -> dict[str, object]:
    """A recorded warning as plain data."""
    return {
        "module": record.category.__module__,
        "name": record.category.__qualname__,
        "message": text_of(record.message),
        "filename": printable(record.filename),
        "lineno": record.lineno,
    }


def unpack_warning(data: Any, *, controlled: bool) -> warnings.WarningMessage:
    """Make the warning again, of what :func:`pack_warning` made.

    Its class is used where this process has it loaded already and can make an instance that reads the same; else one of
    that name is made up. ``controlled``: an xdist controller will import the class by name, and dies if it can't; then
    only installed classes are used, as test modules are not importable there, and a plain ``Warning`` carries the name
    of any other.
    """
    text, name = text_of(data["message"]), text_of(data["name"])
    kind = _warning_class(str(data["module"]), name, controlled=controlled)
    message = None if kind is None else _warning_that_reads(kind, text)
    if message is None and controlled:
        message = Warning(f"{name}: {text}")
    elif message is None:
        message = type(name.rpartition(".")[2], (Warning,), {})(text)
    return warnings.WarningMessage(message, type(message), text_of(data["filename"]), int(data["lineno"]))


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
    return message if text_of(message) == text else None
