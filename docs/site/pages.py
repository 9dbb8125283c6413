"""A hook of mkdocs: pages that are not in ``docs/``, and links to them.

The README is the first page. What a page links to outside of ``docs/`` becomes a page, too: a program's text, a
folder's files, another Markdown file. So no link leads out of the site, wherever the repository is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import reference
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_REFERENCE = "reference.md"
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
_CODE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_FETCHED = re.compile(r'<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)="?((?:https?:)?//[^">\s]+)')
_LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml"}


def on_config(config: Any) -> Any:
    """Add the decisions, and pages that mkdocs.yml does not name."""
    named = str(config.nav)
    more = [page.name for page in sorted(DOCS.glob("*.md")) if f"'{page.name}'" not in named]
    decisions = [f"decisions/{page.name}" for page in sorted((DOCS / "decisions").glob("*.md"))]
    config.nav += [{"Decisions": decisions}, *([{"More": more}] if more else [])]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the reference, and all that pages link to."""
    sources = [ROOT / "README.md", *(DOCS / page.src_uri for page in files.documentation_pages())]
    for source in _reached(sources):
        if not _is_in_docs(source):
            files.append(File.generated(config, _place(source), content=_text(source)))
    files.append(File.generated(config, _REFERENCE, content=reference.page()))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Let links lead to where their targets are in the site."""
    place = page.file.src_uri
    source = _source(place)

    def moved(link: re.Match[str]) -> str:
        target = _target(source, link[1])
        return os.path.relpath(_place(target), os.path.dirname(place) or ".") if target.exists() else link[1]

    parts = _CODE.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(moved, part) for part in parts)


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """Refuse what a browser would fetch from elsewhere."""
    if fetched := _FETCHED.findall(output):
        raise PluginError(f"{page.file.src_uri} needs the network: {', '.join(fetched)}")
    return output


def _reached(sources: Iterable[Path]) -> set[Path]:
    """These files and folders, what they link to, and so on."""
    seen: set[Path] = set()
    waiting = [*sources]
    while waiting:
        source = waiting.pop()
        seen.add(source)
        linked = {_target(source, link) for link in _LINK.findall(_CODE.sub("", _text(source)))}
        waiting += {path for path in linked if path.exists() and path.suffix != ".svg"} - seen
    return seen


def _target(source: Path, link: str) -> Path:
    return Path(os.path.normpath((source if source.is_dir() else source.parent) / link))


def _is_in_docs(path: Path) -> bool:
    """Whether mkdocs finds it by itself."""
    return path.is_file() and path.is_relative_to(DOCS)


def _place(path: Path) -> str:
    """Where a file or folder is in the site."""
    if path == ROOT / "README.md":
        return "index.md"
    if path.is_relative_to(DOCS):
        return str(path.relative_to(DOCS) / ("index.md" if path.is_dir() else ""))
    return f"repository/{path.relative_to(ROOT).with_suffix('')}.md"


def _source(place: str) -> Path:
    """What a page was made of."""
    if place == "index.md":
        return ROOT / "README.md"
    if not place.startswith("repository/"):
        return (DOCS / place).parent if place.endswith("/index.md") else DOCS / place
    path = ROOT / place.removeprefix("repository/")
    return path if path.exists() else path.with_suffix("")


def _text(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text("utf-8")
    if path.is_file():
        return _program(path, "#", path.name)
    if path.is_relative_to(DOCS):
        pages = sorted(path.glob("*.md"))
        return f"# {path.name.capitalize()}\n\n" + "".join(f"- [{_title(page)}]({page.name})\n" for page in pages)
    readme = path / "README.md"
    first = readme.read_text("utf-8") if readme.exists() else f"# {path.relative_to(ROOT)}\n"
    files = [each for each in sorted(path.rglob("*")) if each.suffix in _LANGUAGES]
    return "\n".join([first, *(_program(each, "##", str(each.relative_to(path))) for each in files)])


def _program(path: Path, mark: str, title: str) -> str:
    return f"{mark} {title}\n\n```{_LANGUAGES.get(path.suffix, 'sh')}\n{path.read_text('utf-8')}```\n"


def _title(page: Path) -> str:
    return page.read_text("utf-8").partition("\n")[0].removeprefix("# ")
