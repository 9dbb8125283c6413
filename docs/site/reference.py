"""The page "Reference", made from the code, so that it cannot disagree with it.

Keys, options and ini values are asked for as pytest asks for them. Hooks, fixtures and the library are read from the
source, as to import them takes the compiled core.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # a build of the site does without an installation

import pytest_isolate  # noqa: E402
from pytest_isolate.plugin.config import options  # noqa: E402
from pytest_isolate.spec.keys import KEYS, flag  # noqa: E402

PACKAGE = Path(pytest_isolate.__file__).parent
_HEAD = """# Reference

Made from the code. [Options](options.md) explains the same with examples.
"""


class Recorder:
    """Stands for pytest's parser, and for a group of its options: keeps what the plugin registers."""

    def __init__(self) -> None:
        self.options: list[tuple[str, dict[str, Any]]] = []
        self.ini: list[tuple[str, str, dict[str, Any]]] = []

    def getgroup(self, *_: str) -> Recorder:
        return self

    def addoption(self, name: str, **attributes: Any) -> None:
        self.options.append((name, attributes))

    def addini(self, name: str, about: str, **attributes: Any) -> None:
        self.ini.append((name, about, attributes))


def page() -> str:
    """All of it, as Markdown."""
    recorder = Recorder()
    options.add_options(recorder)  # type: ignore[arg-type]
    parts = [_HEAD, *_keys(), *_options(recorder), *_ini_values(recorder), *_fixtures(), *_hooks(), *_library()]
    return "\n".join(parts)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _plain(text: str) -> str:
    """A help text, which is no Markdown."""
    return re.sub(r"([*<])", r"\\\1", text)


def _keys() -> Iterator[str]:
    yield "## Keys of the marker `isolate`\n"
    yield _row("key", "command line", "ini value", "meaning", "needs the controller")
    yield _row(*["---"] * 5)
    for key in KEYS.values():
        places = (f"`{flag(key.name)}`", f"`isolate_{key.name}`") if key.metavar else ("–", "–")
        yield _row(f"`{key.name}`", *places, _plain(key.meaning), f"`{key.controller}`" if key.controller else "–")
    yield "\nThe marker `no_isolate` keeps a test in pytest's own process.\n"


def _options(recorder: Recorder) -> Iterator[str]:
    yield "## Options\n"
    yield _row("option", "meaning")
    yield _row(*["---"] * 2)
    for name, attributes in recorder.options:
        value = f"={attributes['metavar']}" if attributes.get("metavar") else ""
        yield _row(f"`{name}{value}`", _plain(attributes["help"]))
    yield ""


def _ini_values(recorder: Recorder) -> Iterator[str]:
    kinds = {"linelist": "one per line", "args": "words", "bool": "`true` or `false`"}
    yield "## Ini values\n"
    yield _row("name", "form", "meaning")
    yield _row(*["---"] * 3)
    for name, about, attributes in recorder.ini:
        yield _row(f"`{name}`", kinds.get(attributes.get("type", ""), "text"), _plain(about))
    yield ""


def _fixtures() -> Iterator[str]:
    yield "## Fixtures\n"
    for function in _functions("plugin/fixtures.py"):
        if "pytest.fixture" in _decorators(function):
            (scope,) = re.findall(r"scope='(\w+)'", _decorators(function)) or ["function"]
            yield f"### `{function.name}`\n\nScope: {scope}.\n\n{_text(function)}\n"


def _hooks() -> Iterator[str]:
    yield "## Hooks\n"
    for function in _functions("plugin/hookspecs.py"):
        yield f"### `{function.name}`\n\n{_signature(function)}\n{_text(function)}\n"
        if "firstresult" in _decorators(function):
            yield "The first answer that is not `None` counts.\n"


def _library() -> Iterator[str]:
    yield "## Library\n\n`from pytest_isolate import ...`\n"
    for name in pytest_isolate.__all__:
        home = pytest_isolate._HOMES.get(name, "__init__").replace(".", "/")
        source = (PACKAGE / f"{home}.py").read_text("utf-8")
        (node,) = (each for each in ast.parse(source).body if getattr(each, "name", None) == name)
        if isinstance(node, ast.ClassDef):
            yield from _class(node, source.splitlines())
        elif isinstance(node, ast.FunctionDef):
            yield f"### `{name}`\n\n{_signature(node)}\n{_text(node)}\n"


def _class(node: ast.ClassDef, source: list[str]) -> Iterator[str]:
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    yield f"### `{node.name}`\n\n```python\nclass {node.name}{f'({bases})' if bases else ''}\n```\n\n{_text(node)}\n"
    if fields := [each for each in node.body if isinstance(each, ast.AnnAssign)]:
        yield f"{_row('field', 'type', 'default', 'meaning')}\n{_row(*['---'] * 4)}"
        for field in fields:
            default = f"`{ast.unparse(field.value)}`" if field.value else "–"
            yield _row(
                f"`{ast.unparse(field.target)}`", f"`{ast.unparse(field.annotation)}`", default, _comment(source, field)
            )
        yield ""
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and _is_public(method):
            yield f"#### `{node.name}.{method.name}`\n\n{_signature(method)}\n{_text(method)}\n"


def _functions(name: str) -> list[ast.FunctionDef]:
    """Those at the top of a module of the package."""
    body = ast.parse((PACKAGE / name).read_text("utf-8")).body
    return [each for each in body if isinstance(each, ast.FunctionDef)]


def _is_public(method: ast.FunctionDef) -> bool:
    if method.name == "__init__":
        return bool(method.args.args[1:] or method.args.kwonlyargs) and bool(ast.get_docstring(method))
    return not method.name.startswith("_")


def _comment(source: list[str], field: ast.AnnAssign) -> str:
    """What the comment ``#:`` says, beside the field or above it."""
    beside = source[(field.end_lineno or field.lineno) - 1].partition("#:")[2]
    above = []
    for line in reversed(source[: field.lineno - 1]):
        if not line.strip().startswith("#:"):
            break
        above.insert(0, line.strip().removeprefix("#:").strip())
    return _markdown(beside.strip() or " ".join(above))


def _decorators(function: ast.FunctionDef) -> str:
    return " ".join(ast.unparse(each) for each in function.decorator_list)


def _signature(function: ast.FunctionDef) -> str:
    kept = [f"@{name}\n" for name in _decorators(function).split() if name in {"property", "classmethod"}]
    returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    return f"```python\n{''.join(kept)}def {function.name}({ast.unparse(function.args)}){returns}\n```\n"


def _text(node: ast.FunctionDef | ast.ClassDef) -> str:
    return _markdown(ast.get_docstring(node) or "")


def _markdown(text: str) -> str:
    """A docstring: its parameters and errors become a list."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    text = re.sub(r"``(.+?)``", r"`\1`", text, flags=re.DOTALL)
    text = re.sub(r"(?:^|(?<=\s)):param (\w+):", r"\n- **`\1`**:", text)
    text = re.sub(r"(?:^|(?<=\s)):raises ([\w.]+):", r"\n- **raises `\1`**:", text)
    text = re.sub(r"(?:^|(?<=\s)):return:", r"\n- **returns**:", text)
    return re.sub(r"\n\s*\n- ", "\n- ", text).replace("\n- ", "\n\n- ", 1).strip()
