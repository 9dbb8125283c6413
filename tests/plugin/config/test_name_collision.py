"""The guard against PyPI's unrelated pytest-isolate, which owns the same import package."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pytest_isolate.plugin.config.name_collision import check_owner

pytest_plugins = ["pytester"]


def install(folder: Path, name: str, version: str = "0.0.17") -> None:
    """What importlib.metadata sees of an installed distribution."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    info.joinpath("top_level.txt").write_text("pytest_isolate\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Before the rest, not instead of it: importlib.metadata imports the email package when it first reads a file.
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def test_pypis_pytest_isolate_beside_ours_is_refused_with_the_way_out(site: Path) -> None:
    install(site, "pytest-isolate-ns", "1.0")
    install(site, "pytest-isolate")

    with pytest.raises(pytest.UsageError) as caught:
        check_owner()

    text = str(caught.value)
    assert "pytest-isolate 0.0.17 and pytest-isolate-ns are both installed" in text
    assert "pip uninstall pytest-isolate; pip install --force-reinstall pytest-isolate-ns." in text


def test_ours_alone_and_packages_of_similar_names_are_fine(site: Path) -> None:
    for name in ("pytest-isolate-ns", "pytest-isolated", "pytest-isolate-mpi"):
        install(site, name)

    check_owner()


def test_the_check_reads_no_other_distributions_metadata(site: Path) -> None:
    install(site, "other")
    site.joinpath("other-0.0.17.dist-info", "METADATA").write_bytes(b"\xff\xfe not utf-8")

    check_owner()


def test_pytest_stops_before_it_collects(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    install(pytester.path, "pytest-isolate")
    pytester.makepyfile(
        only="""
            from pytest_isolate.plugin.config.options import add_options as pytest_addoption
            from pytest_isolate.plugin.config.options import configure as pytest_configure
        """,
        test_a="def test_a(): pass",
    )
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)

    result = pytester.runpytest_subprocess("-p", "no:pytest_isolate", "-p", "only")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: pytest-isolate 0.0.17 and pytest-isolate-ns are both installed*"])
