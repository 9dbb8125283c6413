"""Names the home of the project in the checkout that a release is built from.

A package's page shows README away from it.

usage: set_home.py URL REF

URL is the repository's, as https://example.org/someone/pytest-isolate-ns, REF the release's tag. The repository itself
does not know where it is kept, and copies of it are elsewhere. Relative links of README become absolute ones, to the
files as they are at REF, and pyproject.toml gets [project.urls].
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!https?:|#)(?P<target>[^)\s]+)\)")


def with_absolute_links(readme: str, home: str, ref: str) -> str:
    """README's text, which keeps links inside of the page and to other sites."""

    def absolute(link: re.Match[str]) -> str:
        folder = "raw" if link["picture"] else "blob"  # a page about the file, which is no picture
        return f"{link['picture']}[{link['text']}]({home}/{folder}/{ref}/{link['target']})"

    return _LINK.sub(absolute, readme)


def with_urls(pyproject: str, home: str, ref: str) -> str:
    """The text of pyproject.toml.

    :raises ValueError: if it has URLs: somebody has settled on a home.
    """
    if "[project.urls]" in pyproject:
        raise ValueError("pyproject.toml has [project.urls] already")
    urls = {
        "Source": home,
        "Documentation": f"{home}/blob/{ref}/docs/options.md",
        "Changelog": f"{home}/blob/{ref}/CHANGELOG.md",
        "Issues": f"{home}/issues",
    }
    table = "\n".join(["[project.urls]", *(f'{name} = "{url}"' for name, url in urls.items())])
    return pyproject.replace("[project.entry-points.pytest11]", f"{table}\n\n[project.entry-points.pytest11]", 1)


def main(home: str, ref: str) -> None:
    """Change the checkout that this file is in."""
    root = Path(__file__).resolve().parents[1]
    for name, change in (("README.md", with_absolute_links), ("pyproject.toml", with_urls)):
        file = root / name
        file.write_text(change(file.read_text(encoding="utf-8"), home.rstrip("/"), ref), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
