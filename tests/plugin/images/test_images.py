"""``python -m pytest_isolate images``, as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_isolate.__main__ import main
from pytest_isolate.linux.remove_tree import remove_tree
from tests.support.ignoring import IGNORING
from tests.support.image_layers import docker_save, entry, layout, tar

pytestmark = pytest.mark.needs("sandbox")

Images = Callable[..., str]

BASE = tar(entry("etc/"), entry("etc/a", "1"), entry("etc/b", "2"))
TOP = tar(entry("etc/.wh.a", ""), entry("etc/c", "3"), entry("etc/b", "4"), entry("dev/null", "", type=b"3"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project's folder, with a store of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "project").mkdir()
    yield tmp_path / "project"
    if (tmp_path / "cache").exists():
        remove_tree(tmp_path / "cache")


@pytest.fixture
def images(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Images:
    """The command, run in this process: one of its own would take longer than what it does."""

    def run(*arguments: str, status: int = 0, cwd: Path = folder) -> str:
        monkeypatch.chdir(cwd)
        assert main(["images", *arguments]) == status
        return "".join(capsys.readouterr())

    return run


def test_images_are_built_once_listed_compared_checked_and_removed(folder: Path, images: Images) -> None:
    layout(folder / "fixtures_images/one", BASE)
    layout(folder / "fixtures_images/two", BASE, TOP)
    assert "one: not unpacked yet\ntwo: not unpacked yet\n" in images("list")
    built = images("build")
    assert "two: unpacking layer 2 of 2" in built
    assert "left out 1 devices" in built
    again = images("build")
    assert again == "".join(f"{name}: is in the store already, nothing to do.\n" for name in ("one", "two"))
    (folder / "below").mkdir()
    assert "2 images, 2 layers." in images("list", cwd=folder / "below")
    assert images("diff", "one", "two") == "D /etc/a\nM /etc/b\nA /etc/c\n"
    assert images("verify").count("as it was unpacked") == 2
    assert "removed 1 layer that no image needs, 1 remain." in images("remove", "two")
    assert "is not in the store; python -m pytest_isolate images build two" in images("verify", "two", status=1)


def test_a_layer_that_was_changed_is_found(folder: Path, images: Images) -> None:
    layout(folder / "fixtures_images/one", BASE)
    images("build")
    (file,) = (folder.parent / "cache").rglob("fs/etc/a")
    file.write_text("0")
    assert "CHANGED or damaged\n1 of 1 layers are not" in images("verify", "one", status=1)


def test_an_archive_is_imported_under_a_name(folder: Path, images: Images) -> None:
    docker_save(folder / "saved.tar", BASE, TOP)
    assert "mine: 2 layers" in images("import", "saved.tar", "mine")
    assert os.listdir(folder / "fixtures_images/mine") == ["saved.tar"]
    assert "is there already" in images("import", "saved.tar", "mine", status=1)


def test_an_image_that_is_refused_is_not_imported(folder: Path, images: Images) -> None:
    layout(folder / "bad", tar(entry("../x", "x")))
    assert "its layer sha256:" in (said := images("import", "bad", status=1))
    assert "is refused: '../x' leads out of the layer" in said
    assert "Traceback" not in said
    assert os.listdir(folder / "fixtures_images") == []
    layout(folder / "large", BASE)
    assert "more than 2 entries" in images("import", "large", "--max-entries", "2", status=1)


def test_an_image_is_pulled_by_skopeo_and_by_its_digest(
    folder: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = f"sha256:{'1' * 64}"
    layout(folder / "remote", BASE)
    fake_skopeo(folder, monkeypatch, f'cp -r {folder}/remote "${{3#oci:}}" && echo "$@" >{folder}/asked')

    pulled = images("pull", f"registry:5000/team/base:1.0@{digest}")

    target = folder / "fixtures_images/base"
    assert (folder / "asked").read_text() == f"copy docker://registry:5000/team/base@{digest} oci:{target}\n"
    assert "base: 1 layer, " in pulled
    assert "is there already" in images("pull", f"base@{digest}", status=1)
    assert "other: is in the store already" in images("pull", f"docker://base@{digest}", "other")


def test_what_is_not_pinned_is_not_pulled(folder: Path, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_skopeo(folder, monkeypatch, "echo asked; exit 1")

    for reference in ("localhost:5000/base:1.0", "localhost:5000/base", "localhost:5000/base:1.0@sha256:12"):
        said = images("pull", reference, status=1)
        assert f"image {reference} is not pinned by a digest" in said
        assert "write localhost:5000/base@sha256:..., which skopeo inspect" in said


def test_a_pull_that_fails_leaves_nothing(folder: Path, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = f"base@sha256:{'1' * 64}"
    fake_skopeo(folder, monkeypatch, 'mkdir "${3#oci:}"; exit 7')

    assert f"image {pinned}: was not fetched: skopeo copy ended with status 7" in images("pull", pinned, status=1)
    monkeypatch.setenv("PATH", str(folder))
    (folder / "skopeo").unlink()
    assert "skopeo is not installed; install the package skopeo" in images("pull", pinned, status=1)
    assert os.listdir(folder / "fixtures_images") == []


def test_a_pull_that_fails_is_told_where_the_end_of_children_is_ignored(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_skopeo(folder, monkeypatch, "exit 7")
    pull = [sys.executable, "-m", "pytest_isolate", "images", "pull", f"base@sha256:{'1' * 64}"]

    done = subprocess.run([*IGNORING, *pull], capture_output=True, text=True, check=False, cwd=folder)

    assert done.returncode == 1
    assert "skopeo copy ended with status 7" in done.stderr


def fake_skopeo(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program of that name, as no registry is to be had everywhere."""
    program = folder / "skopeo"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_what_no_folder_holds_any_more_is_collected(folder: Path, images: Images) -> None:
    layout(folder / "fixtures_images/one", BASE)
    layout(folder / "fixtures_images/two", BASE, TOP)
    images("build")
    (folder / "fixtures_images/two").rename(folder / "two")
    said = images("gc")
    assert "which was in" in said
    assert "removed 1 layer that no image needs, 1 remain." in said


def test_an_unknown_name_is_told_with_those_there_are(folder: Path, images: Images) -> None:
    layout(folder / "fixtures_images/busybox", BASE)
    said = images("build", "busibox", status=1)
    assert said == (
        f"image busibox: there is no such image in {folder}/fixtures_images; there are busybox. Did you mean busybox?\n"
    )


def test_the_command_is_reached_by_the_packages_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_isolate", "images", "--help"], stdout=subprocess.PIPE, text=True, check=True
    )
    for command in ("list", "import", "pull", "build", "verify", "remove", "gc", "diff"):
        assert f"\n    {command} " in done.stdout
