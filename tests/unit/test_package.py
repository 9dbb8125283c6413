"""What setup.py says where it cannot build, and what a release does to the checkout."""

from __future__ import annotations

import re
import runpy
import sysconfig
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / "setup.py"


@pytest.mark.skipif(not SETUP.exists(), reason="the installed package is tested, without its sources")
def test_a_build_for_a_free_threaded_python_says_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    known = sysconfig.get_config_var
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: 1 if name == "Py_GIL_DISABLED" else known(name))
    with pytest.raises(SystemExit, match=r"cannot be built for a free-threaded CPython: .*stable ABI"):
        runpy.run_path(str(SETUP))


@pytest.mark.skipif(not SETUP.exists(), reason="the installed package is tested, without its sources")
def test_a_release_names_its_home_in_the_metadata_and_in_the_links_of_the_readme() -> None:
    root = SETUP.parent
    set_home = runpy.run_path(str(root / ".ci/set_home.py"))
    home = "https://example.org/someone/package"
    before = (root / "README.md").read_text()
    after = set_home["with_absolute_links"](before, home, "v1.2.3")
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", after) if not target.startswith("#")]
    assert all(target.startswith("https://") for target in targets)
    paths = [re.sub(rf"^{home}/(blob|raw)/v1.2.3/", "", target) for target in targets if target.startswith(home)]
    assert f"]({home}/raw/v1.2.3/docs/terminal.svg)" in after
    assert len(paths) > 10
    assert [path for path in paths if not (root / path.partition("#")[0]).exists()] == []

    text = set_home["with_urls"]((root / "pyproject.toml").read_text(), home, "v1.2.3")
    (table,) = re.findall(r"^\[project\.urls\]\n(.*?)\n\n", text, re.DOTALL | re.MULTILINE)
    assert f'Source = "{home}"' in table.splitlines()
    with pytest.raises(ValueError, match="already"):
        set_home["with_urls"](text, home, "v1.2.3")
