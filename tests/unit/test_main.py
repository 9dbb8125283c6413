"""The commands beside pytest's."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

import pytest_isolate
from pytest_isolate.__main__ import main
from pytest_isolate.linux import native

_PACKAGE = Path(pytest_isolate.__file__).parent  # as it is installed
_ROOT = Path(__file__).parents[2]


def test_docs_shows_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs", "hosts"]) == 0
    assert "sudo sysctl user.max_user_namespaces" in capsys.readouterr().out


def test_docs_lists_all_pages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs"]) == 0
    pages = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    written = {page.stem for page in (_ROOT / "docs").glob("*.md")} - {"design"}  # for contributors
    assert set(pages) == written


def test_every_page_that_a_message_names_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    texts = [path.read_text() for path in _PACKAGE.rglob("*.py")]
    named = {page for text in texts for page in re.findall(r"`python -m pytest_isolate docs ([^`]+)`", text)}
    assert {"hosts", "networks"} <= named
    for page in named:
        assert main(["docs", page]) == 0
    capsys.readouterr()
    assert not [text for text in texts if re.search(r"[Ss]ee docs/", text)]


@pytest.mark.parametrize("command", ["doctor", "images", "kept"])
def test_without_the_compiled_part_a_command_says_what_to_do(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native, "_missing", ImportError("no _core"))
    assert main([command]) == 1
    assert re.search(r"cannot run this: .*no _core.*(another folder|Install it)", capsys.readouterr().err)


def test_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"pytest-isolate-ns {metadata.version('pytest-isolate-ns')}\n"


def test_the_source_distribution_has_every_folder_of_the_repository() -> None:
    named = set(re.findall(r"^recursive-include (\S+)", (_ROOT / "MANIFEST.in").read_text(), re.MULTILINE))
    assert {"benchmarks", "docs", "examples", "tests", ".ci"} <= named
