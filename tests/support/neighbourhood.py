"""Projects that are run plain and isolated with another plugin beside ours.

A plugin itself: it has the fixture ``neighbours``.
"""

from __future__ import annotations

import re
import shutil
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest

OUTCOMES = """
    import random
    import pytest

    def test_pass(): print("passing")
    def test_fail(): print("said before"); assert 1 == 2
    @pytest.mark.xfail
    def test_xfail(): assert 0
    @pytest.mark.skip(reason="not now")
    def test_skip(): pass
    @pytest.fixture
    def broken(): raise ValueError("in set-up")
    def test_error(broken): pass
    @pytest.mark.parametrize("number", [1, 2])
    def test_random(number): assert not random.random()
"""


class Neighbourhood:
    """A project whose runs load our plugin and those named, and no others that may be installed."""

    def __init__(self, project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        if "pytest_isolate.plugin.hooks" not in project.options:
            project.options += ["-p", "pytest_isolate.plugin.hooks"]
        self.project = project
        self.path: Path = project.path

    def load(self, *plugins: str) -> None:
        for plugin in plugins:
            self.project.options += ["-p", plugin]

    def plain(self, *arguments: str) -> list[str]:
        """What a plain run shows, without what differs from run to run."""
        return _lasting(self.project.run("test_it.py", *arguments).outlines)

    def isolated(self, *arguments: str) -> list[str]:
        """What an isolated run shows besides our own header."""
        shown = self.project.isolated("--isolate-usage=0", "test_it.py", *arguments).outlines
        ours = [line for line in shown if line.startswith("isolate: ")]
        assert ours, "nothing is isolated"
        return _lasting([line for line in shown if line not in ours])

    def same(self, *arguments: str) -> str:
        """Run both ways, see that the terminal shows the same, and return that."""
        plain, isolated = self.plain(*arguments), self.isolated(*arguments)
        assert not [*unified_diff(plain, isolated, "plain", "isolated", lineterm="")]
        return "\n".join(plain)

    def same_tree(self, name: str, *arguments: str) -> str:
        """As :meth:`same`, and see that both runs make the same of the folder ``name``; leave it so."""
        before, after, shown = _tree(self.path / name), [], []
        for run in (self.plain, self.isolated):
            shutil.rmtree(self.path / name, ignore_errors=True)
            for path, content in before.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            shown.append(run(*arguments))
            after.append(_tree(self.path / name))
        plain, isolated = shown
        assert not [*unified_diff(plain, isolated, "plain", "isolated", lineterm="")]
        assert after[1] == after[0]
        return "\n".join(plain)

    def files(self, name: str, *arguments: str) -> tuple[str, str]:
        """The file ``name`` that a plain run writes, and that of an isolated one."""
        texts = []
        for run in (self.plain, self.isolated):
            (self.path / name).unlink(missing_ok=True)
            run(*arguments)
            texts.append((self.path / name).read_text())
        return texts[0], texts[1]


def _tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _lasting(lines: list[str]) -> list[str]:
    """Without times and addresses."""
    return [re.sub(r"0x[0-9a-f]{6,}|\b[0-9]+\.[0-9]+ ?m?s\b|={2,}", "~", line) for line in lines]


@pytest.fixture
def neighbours(project: Any, monkeypatch: pytest.MonkeyPatch) -> Neighbourhood:
    return Neighbourhood(project, monkeypatch)


def without_times(data: Any) -> Any:
    """Parsed JSON without durations and other times, and without our own properties and sections."""
    if isinstance(data, dict):
        return {
            key: without_times(value)
            for key, value in data.items()
            if key not in {"duration", "start", "stop", "created", "user_properties", "pid", "uuid"}
        }
    if isinstance(data, list):
        return [without_times(entry) for entry in data]
    return re.sub(r"0x[0-9a-f]{6,}|[0-9]+ ms|[0-9:]{8}", "~", data) if isinstance(data, str) else data
