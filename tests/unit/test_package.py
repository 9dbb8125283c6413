"""What setup.py says where it cannot build, what a run says that has not been built, and what a release does."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

import pytest_isolate

SETUP = Path(__file__).parents[2] / "setup.py"


@pytest.mark.skipif(not SETUP.exists(), reason="the installed package is tested, without its sources")
def test_a_build_for_a_free_threaded_python_says_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    known = sysconfig.get_config_var
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: 1 if name == "Py_GIL_DISABLED" else known(name))
    with pytest.raises(SystemExit, match=r"cannot be built for a free-threaded CPython: .*stable ABI"):
        runpy.run_path(str(SETUP))


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--isolate-all"], "isolate cannot be enforced here: the compiled part*"),
        (["--isolate-all", "--isolate-unsupported=skip", "-rs"], "SKIPPED*the compiled part*"),
        (["--isolate-session"], "*--isolate-session: isolate cannot be enforced here: the compiled part*"),
    ],
)
@pytest.mark.parametrize(
    ("beside", "remedy"),
    [("setup.py", "*start it in another folder, or build them*"), ("other_package.py", "*Install it on Linux*")],
)
def test_without_the_compiled_part_a_run_says_what_to_do(
    pytester: pytest.Pytester, options: list[str], found: str, beside: str, remedy: str
) -> None:
    package = Path(pytest_isolate.__file__).parent
    shutil.copytree(package, pytester.path / "copy/pytest_isolate", ignore=shutil.ignore_patterns("*.so", "builder"))
    (pytester.path / "copy" / beside).touch()
    pytester.makepyfile(test_it="def test_it(): pass")
    path = f"PYTHONPATH={pytester.path / 'copy'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    result = pytester.run("env", path, sys.executable, "-m", "pytest", *options, "test_it.py")
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    lines = [*result.outlines, *result.errlines]
    pytest.LineMatcher(lines).fnmatch_lines([found])
    pytest.LineMatcher(lines).fnmatch_lines([remedy])


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
