"""Follows a page as a reader does: writes its files, runs its commands, and sees what the page shows."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documents import Block, blocks
from tests.support.project import Project


def walk(page: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> int:
    """Do what a page says, each section in a folder of its own. The number of commands that were run.

    A block with a title is a file. Of a ``console`` block each line with ``$`` is a command, and the lines below are
    found in its output, in this order. Numbers, IDs, the home folder, and the length of rules and spaces may differ.
    ``...`` stands for any lines.
    """
    # A reader's programs are those of the environment, and nothing of this run is kept in his home folder.
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    monkeypatch.setenv("XDG_CACHE_HOME", str(project.path / "cache"))
    count = 0
    for number, (_, found) in enumerate(itertools.groupby(blocks(page), key=lambda block: block.section)):
        folder = project.path / f"section-{number}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        for block in found:
            if block.title:
                Path(block.title).parent.mkdir(parents=True, exist_ok=True)
                Path(block.title).write_text(block.text)
            if block.language == "console":
                count += sum(1 for _ in _run(block, project))
    return count


def _run(block: Block, project: Project) -> Iterator[None]:
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        output = _output(command, project)
        _compare(f"{block}: {command}", shown, output)
        yield


def _output(command: str, project: Project) -> str:
    words = shlex.split(command, comments=True)
    if words[0] == "pytest":
        result = project.run("--rootdir=.", *words[1:])
        return "\n".join([*result.outlines, *result.errlines])
    return subprocess.run(command, shell=True, stdout=-1, stderr=-2, text=True, check=False, timeout=300).stdout


def _compare(place: str, shown: str, output: str) -> None:
    lines = iter(output.splitlines())
    for line in filter(None, (each.rstrip() for each in shown.splitlines())):
        if line != "...":
            assert any(re.fullmatch(_pattern(line), each.rstrip()) for each in lines), (
                f"{place}: no {line!r} in\n{output}"
            )


def _pattern(line: str) -> str:
    text = re.escape(line)
    text = re.sub(r"(=|_|\\-){3,}", r"(?:\1)+", text)
    text = re.sub(r"(\\ )+", r"\\s+", text)
    text = re.sub(r"/home/ada|\b(?=[a-f]*[0-9])[0-9a-f]{6}\b", r"\\S+", text)
    return re.sub(r"\b[0-9]+(\\\.[0-9]+)?(?=\b|[smMKG])", r"[\\d.]+", text)
