"""Recipes of images: what is read from image.toml, and what is wrong with one."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from pytest_isolate.images.build import debian_packages, recipe
from pytest_isolate.images.build.recipe import File, LayerRecipe, Recipe
from pytest_isolate.spec.errors import ImageError

_REPOSITORY = Path(__file__).parents[4]


def read(folder: Path, text: str) -> Recipe:
    folder.mkdir(exist_ok=True)
    (folder / "image.toml").write_text(text)
    return recipe.read(str(folder))


def test_each_kind_of_layer_is_read(tmp_path: Path) -> None:
    (tmp_path / "tool.sh").write_text("run")
    made = read(
        tmp_path,
        f"""
base = "busybox"
env = {{ PATH = "/opt" }}
[[layer]]
directories = {{ "/d" = "1777" }}
links = {{ "/l" = "d" }}
files."/f" = "text"
files."/tool" = {{ from = "tool.sh", mode = "755" }}
[[layer]]
tar = "root.tar"
sha256 = "{"0" * 64}"
[[layer]]
packages = ["dash", "libc6=2.36-9+deb12u1"]
[[layer]]
run = "echo"
[[layer]]
run = ["/bin/true"]
""",
    )
    assert made == Recipe(
        base="busybox",
        env=(("PATH", "/opt"),),
        layers=(
            LayerRecipe(
                files=(
                    File(path="/d", mode=0o1777),
                    File(path="/f", mode=0o644, text=b"text"),
                    File(path="/tool", mode=0o755, text=b"run"),
                    File(path="/l", mode=0o777, target="d"),
                )
            ),
            LayerRecipe(tar=str(tmp_path / "root.tar"), sha256="0" * 64),
            LayerRecipe(packages=("dash", "libc6=2.36-9+deb12u1")),
            LayerRecipe(run=("/bin/sh", "-ec", "echo")),
            LayerRecipe(run=("/bin/true",)),
        ),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no layer; write"),
        ("layer = 3", "has no layer"),
        ("[[layer]", "cannot be read"),
        ("bse = 'x'\n[[layer]]\nrun = 'x'", "there is no key 'bse'; allowed are base, env, layer. Did you mean base?"),
        ("[[layer]]", r"layer 1: must have one of tar, packages, run, files, directories and links"),
        ("[[layer]]\nrun = 'x'\npackages = ['y']", "must have one of"),
        ("[[layer]]\nrun = 'x'\nsha256 = 'y'", "there is no key 'sha256'; allowed are run"),
        ("[[layer]]\nrun = ''", "allowed is a line for /bin/sh, or a list of words"),
        ("[[layer]]\ntar = 'x'", "sha256=None: allowed is text"),
        ("[[layer]]\ntar = 'x'\nsha256 = 'abc'", "allowed are 64 hexadecimal digits"),
        ("[[layer]]\npackages = ['-o=Dir::Bin::x']", "allowed is the name of a package, or name=version"),
        ("[[layer]]\npackages = []", "allowed is a list of names"),
        ("[[layer]]\nfiles.'x' = 'y'", '"x": allowed is an absolute path'),
        ("[[layer]]\nfiles.'/../x' = 'y'", "allowed is an absolute path"),
        ("[[layer]]\nfiles.'/x' = { text = 'y', from = 'z' }", "allowed is text, or a table with text or from"),
        ("[[layer]]\nfiles.'/x' = { from = 'missing' }", "cannot be read: No such file"),
        ("[[layer]]\ndirectories.'/x' = 755", "allowed are octal digits as text"),
        ("[[layer]]\ndirectories.'/x' = '477755'", "allowed are octal digits as text"),
        ("[[layer]]\ndirectories.'/x' = '-755'", "allowed are octal digits as text"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        read(tmp_path, text)
    assert "image.toml" in str(caught.value)


def test_whatever_a_recipe_says_is_part_of_what_it_is_known_by(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_text("1")
    text = "[[layer]]\nfiles.'/x' = { from = 'file' }\n"
    read(tmp_path / "a", text)
    read(tmp_path / "b", f"base = 'a'\n{text}".replace("from = 'file'", "text = '1'"))
    first = [recipe.digest(str(tmp_path / name)) for name in "ab"]
    assert first == [recipe.digest(str(tmp_path / name)) for name in "ab"]
    (tmp_path / "a/file").write_text("2")
    second = [recipe.digest(str(tmp_path / name)) for name in "ab"]
    assert not set(first) & set(second)
    read(tmp_path / "a", f"base = 'b'\n{text}")
    with pytest.raises(ImageError, match="is its own base"):
        recipe.digest(str(tmp_path / "a"))


def test_what_an_older_version_built_is_known(tmp_path: Path) -> None:
    read(tmp_path / "one", "[[layer]]\nfiles = { '/a' = 'x' }\nlinks = { '/l' = 'a' }\n")
    text = "base = 'one'\nenv = { A = 'b' }\n[[layer]]\npackages = ['dash']\n[[layer]]\nrun = 'echo'\n"
    read(tmp_path / "two", text)
    known = "sha256:f00082a3fdb1e08b69d3bceb8004e03cf41931ea3d5d00b6c710d3cad8b325e3"
    assert recipe.digest(str(tmp_path / "two")) == known


@pytest.mark.parametrize("name", ["busybox", "debian-slim"])
def test_the_recipes_that_ship_are_right_and_have_two_layers(name: str) -> None:
    assert len(recipe.read(str(_REPOSITORY / "fixtures_images" / name)).layers) == 2


def test_what_apt_says_of_many_packages_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("apt-get", "dpkg-deb"):
        program = tmp_path / name
        program.write_text('#!/bin/sh\nfor each in a b c; do echo "E: Failed to fetch $each" >&2; done\nexit 100\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ImageError, match=r"E: Failed to fetch a \(and 2 more like it\)$"):
        debian_packages.as_tar(["anything"], str(tmp_path), io.BytesIO(), lowest=True)
