"""The pages of the documentation, and what stands in them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).parents[2]
#: What a reader may come to.
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), REPOSITORY / "benchmarks/README.md",
     REPOSITORY / "fixtures_images/README.md"]
)  # fmt: skip
_BLOCK = re.compile(r'^```(\w*)(?: title="(.*?)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!\w+:)([^)\s]*?)(?:#([^)\s]+))?\)")


@dataclass(frozen=True)
class Block:
    """Code, or what a terminal shows."""

    page: Path
    line: int
    section: str  #: the heading above it
    language: str
    title: str  #: the file that it is; "" if it is none
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def blocks(page: Path, *languages: str) -> list[Block]:
    """All of a page in these languages, in their order; without any named, all."""
    text = page.read_text("utf-8")
    found = [
        Block(page, text.count("\n", 0, at.start()) + 1, _section(text[: at.start()]), at[1], at[2] or "", at[3])
        for at in _BLOCK.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]


def _section(before: str) -> str:
    headings: list[str] = re.findall(r"^## (.*)$", before, re.MULTILINE)
    return headings[-1] if headings else ""


def prose(page: Path) -> str:
    """A page without its blocks."""
    return _BLOCK.sub("", page.read_text("utf-8"))


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """File or folder, and anchor or ""; those to other machines are left out."""
    for target, anchor in _LINK.findall(prose(page)):
        yield (page.parent / target).resolve() if target else page, anchor


def anchors(page: Path) -> set[str]:
    """Those of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def reference() -> ModuleType:
    """The program that makes the page "Reference"."""
    spec = importlib.util.spec_from_file_location("reference", REPOSITORY / "docs/site/reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
