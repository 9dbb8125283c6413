"""The pages lead nowhere wrong, and write nothing that there is not."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path

import pytest

import pytest_isolate
from pytest_isolate.__main__ import _PAGES
from pytest_isolate.images import commands as images
from pytest_isolate.plugin.config import options
from pytest_isolate.session.doctor import command as doctor
from pytest_isolate.session.kept import command as kept
from pytest_isolate.spec.keys import KEYS
from tests.support.documents import PAGES, REPOSITORY, anchors, blocks, links, reference

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))


@each_page
def test_a_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists()
        assert not anchor or anchor in anchors(target), f"{target}#{anchor}"


@each_page
def test_code_can_be_read(page: Path) -> None:
    for block in blocks(page, "python"):
        # A bare decorator is an example of a marker.
        code = re.sub(r"(\n@pytest\.mark[^\n]*)\n(?=@pytest\.mark|$)", r"\1\ndef test(): ...\n", "\n" + block.text)
        ast.parse(code, str(block))
    for block in blocks(page, "toml"):
        tomllib.loads(block.text)


@each_page
def test_options_and_ini_values_exist(page: Path) -> None:
    recorder = reference().Recorder()
    options.add_options(recorder)
    written = {name for name, _ in recorder.options}
    values = {name for name, _, _ in recorder.ini} | {"isolate_network_factory", "isolate_open_port"}
    text = page.read_text("utf-8")

    assert set(re.findall(r"--isolate-[a-z]+(?:-[a-z]+)*(?![\w*-])", text)) <= written
    assert set(re.findall(r"^(isolate_\w+) *=", text, re.MULTILINE)) <= values


@each_page
def test_commands_are_taken(page: Path) -> None:
    parsers = {"images": images._parser(), "kept": kept._parser(), "doctor": doctor._parser()}
    for written in re.findall(r"python -m pytest_isolate ([^'`\n#|&;()]*)", page.read_text("utf-8")):
        command, *words = [word for each in shlex.split(written.partition(" -- ")[0]) if (word := each.strip("[].,"))]
        if command == "docs":
            assert not words or words[0] in {"PAGE", *_PAGES}
        elif len(words) == 1:  # a command is only named
            assert f" {words[0]} " in parsers[command].format_help()
        elif words:
            parsers[command].parse_args(words)


def test_the_reference_has_all_that_is_public() -> None:
    page = reference().page()
    for name in (*KEYS, *pytest_isolate.__all__):
        assert f"`{name}`" in page
    for name in ("pytest_isolate_spec", "pytest_isolate_outcome", "isolated", "isolate_network", "isolate_open_port"):
        assert f"### `{name}`" in page
    assert "| `memory` | `--isolate-memory` | `isolate_memory` |" in page
    assert "| `--isolate-jobs=N` |" in page
    assert "| `isolate_report` | one per line |" in page
    assert "| `cpus` | `float \\| None` | `None` | CPU quota in cores |" in page
    assert "#### `Network.cut`" in page
    assert ":param" not in page
    assert ":class:" not in page


def test_the_picture_is_of_the_demo_and_fetches_nothing() -> None:
    picture = (REPOSITORY / "docs/terminal.svg").read_text()
    for name in ("test_harmless.py", "test_beyond_limits.py"):
        for test in re.findall(r"^def (test_\w+)", (REPOSITORY / "examples" / name).read_text(), re.MULTILINE):
            assert f"{name}::{test}" in picture
    assert "url(http" not in picture
    assert "href" not in picture
