"""A project whose tests run on an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_isolate.linux.remove_tree import remove_tree
from tests.support.image_layers import layout
from tests.support.on_image import BASE, TOP
from tests.support.project import Project


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store for all tests of a module, which unpack the same image."""
    place = tmp_path_factory.mktemp("cache")
    yield place
    remove_tree(place)


@pytest.fixture
def on_image(project: Project, unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with an image; its tests use ``sh()``."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(unpacked))
    layout(project.path / "fixtures_images/tiny", BASE, TOP, env=["FROM_IMAGE=yes", "PATH=/opt/tool:/bin"])
    project.options += ["--isolate-image=tiny"]
    return project
