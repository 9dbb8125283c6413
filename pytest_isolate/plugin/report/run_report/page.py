"""The report for people: one HTML file without foreign assets, readable without JavaScript and better with it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pytest_isolate.plugin.report.run_report.data import OUTCOMES
from pytest_isolate.plugin.report.run_report.time_line import time_line
from pytest_isolate.plugin.report.summary import ABSENT, count, seconds
from pytest_isolate.spec.sizes import size_text

_HERE = Path(__file__).parent
#: Of the table: title, and whether it holds numbers, whether a narrow screen leaves it out.
_COLUMNS = (
    ("outcome", False, False),
    ("test", False, False),
    ("time", True, False),
    ("CPU", True, True),
    ("memory", True, False),
    ("pids", True, True),
    ("files", True, True),
    ("worker", False, True),
)


def render(document: Mapping[str, Any]) -> str:
    """The page of a report. :param document: by the schema of docs/report.md."""
    run, tests = document["run"], document["tests"]
    totals = {outcome: number for outcome, number in document["totals"].items() if number}
    title = ", ".join(f"{number} {outcome}" for outcome, number in totals.items()) or "no tests"
    style, script = ((_HERE / name).read_text("utf-8") for name in ("page.css", "page.js"))
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{style}</style>",
            '<script>document.documentElement.className = "starts"</script></head><body>',
            f"<header><h1>{_totals(totals) or title}</h1>{_describe(run)}</header><main>",
            *_not_collected(document["not_collected"]),
            *time_line(tests, run["seconds"]),
            *_controls(totals),
            *_table(tests),
            f"</main><script>{script}</script></body></html>\n",
        ]
    )


def _totals(totals: Mapping[str, int]) -> str:
    return ", ".join(f'<span class="{outcome}">{number} {outcome}</span>' for outcome, number in totals.items())


def _describe(run: Mapping[str, Any]) -> str:
    began = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(run["started"]))
    words = f"pytest {' '.join(run['arguments'])}".strip()
    versions = f"Python {run['python']}, pytest {run['pytest']}, pytest-isolate-ns {run['isolate']}, {run['system']}"
    return (
        f'<p class="soft"><code>{escape(words)}</code> in {escape(run["folder"])}<br>'
        f"{escape(began)}, {seconds(run['seconds'])}, exit status {run['exit_status']}<br>{escape(versions)}</p>"
    )


def _not_collected(found: Sequence[Mapping[str, str]]) -> Iterator[str]:
    for each in found:
        yield f'<h2 class="error">{escape(each["id"])} could not be collected</h2><pre>{escape(each["text"])}</pre>'


def _controls(totals: Mapping[str, int]) -> Iterator[str]:
    """Of use with JavaScript only, which shows them."""
    yield '<h2>Tests</h2><form hidden><label>Filter <input type="search" name="words"></label>'
    for outcome, number in totals.items():
        yield (
            f'<label class="{outcome}"><input type="checkbox" value="{outcome}" checked> {outcome} ({number})</label>'
        )
    yield '<output id="count"></output></form>'


def _table(tests: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    peak = max((_usage(test).get("memory_peak_bytes") or 0 for test in tests), default=0)
    heads = "".join(
        f'<th scope="col" class="{"n " if number else ""}{"wide" if wide else ""}">{title}</th>'
        for title, number, wide in _COLUMNS
    )
    yield f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>'
    # What needs a look comes first; numbers stay those of the time line.
    for number, test in sorted(enumerate(tests), key=lambda pair: OUTCOMES.index(pair[1]["outcome"])):
        yield _row(number, test, peak)
    yield "</tbody></table></div>"


def _row(number: int, test: Mapping[str, Any], peak: int) -> str:
    usage, outcome = _usage(test), test["outcome"]
    cells = (
        f'<td data-v="{outcome}" class="o {outcome}">{outcome}</td>',
        f'<td data-v="{escape(test["id"])}">{_details(test)}</td>',
        _cell(test["seconds"], seconds(test["seconds"])),
        _cell(usage.get("cpu_seconds"), seconds(usage.get("cpu_seconds")), "wide"),
        _memory(test, usage.get("memory_peak_bytes"), peak),
        _cell(usage.get("pids_peak"), count(usage.get("pids_peak")), "wide"),
        _cell(usage.get("files_changed"), count(usage.get("files_changed")), "wide"),
        f'<td data-v="{escape(test["worker"])}" class="wide">{escape(test["worker"])}</td>',
    )
    words = escape(f"{test['id']} {outcome} {test['worker']}".lower())
    return f'<tr id="t{number}" data-o="{outcome}" data-t="{words}">{"".join(cells)}</tr>'


def _cell(value: float | None, text: str, wide: str = "") -> str:
    return f'<td class="n {wide}" data-v="{"" if value is None else value}">{text}</td>'


def _memory(test: Mapping[str, Any], value: int | None, peak: int) -> str:
    """A bar up to the limit, or where there is none, up to the largest of all tests."""
    if value is None:
        return _cell(None, ABSENT)
    limit = test["sandbox"]["limits"]["memory"]
    part = min(100, round(100 * value / (limit or peak or 1)))
    text = size_text(value, 1) + (f" / {size_text(limit)}" if limit else "")
    full = " full" if limit and value >= limit else ""
    return _cell(value, f'<span class="bar{full}" style="--p:{part}%">{text}</span>')


def _details(test: Mapping[str, Any]) -> str:
    return f"<details><summary>{escape(test['id'])}</summary>{''.join(_inside(test))}</details>"


def _inside(test: Mapping[str, Any]) -> Iterator[str]:
    if test["text"]:
        yield f"<pre>{escape(test['text'])}</pre>"
    facts = [*_facts(test)]
    yield f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(text)}</dd>' for name, text in facts)}</dl>"
    for name, text in test["output"].items():
        yield f"<h3>{escape(name)}</h3><pre>{escape(text)}</pre>"
    if changes := (test["sandbox"] or {}).get("changes"):
        more = test["sandbox"]["usage"]["files_changed"] - len(changes)
        text = "\n".join([*changes, *([f"... and {more} more"] if more else [])])
        yield f"<h3>Files changed in the sandbox</h3><pre>{escape(text)}</pre>"


def _facts(test: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "phases", ", ".join(f"{when} {seconds(taken)}" for when, taken in test["phases"].items())
    if test["attempts"] > 1:
        yield "attempts", str(test["attempts"])
    if (sandbox := test["sandbox"]) is None:
        yield "sandbox", "none: it ran in pytest's own process, or not at all"
        return
    usage = sandbox["usage"]
    yield "network", sandbox["network"]
    if sandbox["image"]:
        yield "image", sandbox["image"]
    limits = {name: value for name, value in sandbox["limits"].items() if value}
    sizes = {"memory", "swap", "disk", "io_read", "io_write"}
    yield (
        "limits",
        ", ".join(f"{name} {size_text(value) if name in sizes else value}" for name, value in limits.items()),
    )
    for name in ("read_bytes", "write_bytes"):
        if usage[name]:
            yield name.replace("_", " "), size_text(usage[name], 1)
    for key, reason in sandbox["degraded"].items():
        yield f"{key}: not in force", reason
    for leak in sandbox["leaks"]:
        yield "left behind", leak


def _usage(test: Mapping[str, Any]) -> Mapping[str, Any]:
    return test["sandbox"]["usage"] if test["sandbox"] else {}
