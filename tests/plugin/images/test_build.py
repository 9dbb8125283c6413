"""Images from recipes: `images build`, and tests on what it has built."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_isolate.__main__ import main
from pytest_isolate.images.root.merged_tree import Merged
from pytest_isolate.images.store.store import Store
from pytest_isolate.linux.remove_tree import remove_tree
from tests.support.image_layers import entry, programs, tar
from tests.support.project import Project
from tests.support.walk import walk

pytestmark = pytest.mark.needs("sandbox")

Images = Callable[..., str]
_REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def folder(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The images' folder of the project; its store is beside it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(project.path / "cache"))
    (project.path / "fixtures_images").mkdir()
    yield project.path / "fixtures_images"
    if (project.path / "cache").exists():
        remove_tree(project.path / "cache")


@pytest.fixture
def images(folder: Path, capsys: pytest.CaptureFixture[str]) -> Images:
    """The command."""

    def run(*arguments: str, status: int = 0) -> str:
        done = main(["images", "--folder", str(folder), *arguments])
        said = "".join(capsys.readouterr())
        assert done == status, said
        return said

    return run


def _has_a_route() -> bool:
    """Whether this machine has a default route: proc_pid_net(5), "route"."""
    lines = Path("/proc/net/route").read_text().splitlines()
    return any(line.split()[1] == "00000000" for line in lines[1:])


fetches_a_package = pytest.mark.skipif(
    shutil.which("apt-get") is None or not _has_a_route(),
    reason="there is no apt, or no network to fetch a package from",
)


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "image.toml").write_text(text)


@pytest.fixture
def base(folder: Path) -> None:
    """A recipe with a shell."""
    files = [entry(path, content, mode=0o755) for path, content in programs("sh", "rm", "mkdir", "ln", "mv").items()]
    archive = tar(*files, entry("tree/old", "1"), entry("etc/motd", "hello\n"), entry("etc/name", "x"))
    (folder / "base").mkdir()
    (folder / "base/root.tar").write_bytes(archive)
    digest = hashlib.sha256(archive).hexdigest()
    write(folder, "base", f'[[layer]]\ntar = "root.tar"\nsha256 = "{digest}"\n[[layer]]\nfiles."/etc/extra" = "more"\n')


_TOP = """
base = "base"
env = { COLOUR = "blue" }
[[layer]]
run = '''
echo made >/etc/made
rm -r /tree && mkdir /tree && echo 2 >/tree/new
rm /etc/motd
mv /etc/name /etc/renamed
ln -s made /etc/link
ln /etc/made /etc/hard
mkdir -m 1777 /open
'''
"""


@pytest.mark.usefixtures("base")
def test_a_recipe_is_built_layer_by_layer_once_and_tests_run_on_it(
    folder: Path, images: Images, project: Project
) -> None:
    write(folder, "top", _TOP)
    said = images("build", "top")
    assert "base: " not in said
    steps = ("layer 1 of 2: unpack root.tar", "layer 2 of 2: 1 entries", "layer 1 of 1: run echo made")
    assert [step in said for step in steps] == [True] * 3
    assert "top: 3 layers" in said
    nothing = "is in the store already, nothing to do."
    assert images("build").splitlines() == [f"base: {nothing}", f"top: {nothing}"]
    assert images("verify").count("as it was unpacked") == 3
    assert images("diff", "base", "top").splitlines() == [
        "A /etc/hard", "A /etc/link", "A /etc/made", "D /etc/motd", "D /etc/name", "A /etc/renamed", "A /open",
        "A /tree/new", "D /tree/old",
    ]  # fmt: skip
    stack = next(stack for stack in Store().images() if len(stack.layers) == 3)
    merged = Merged([Store().tree(chain) for chain in reversed(stack.layers)])
    found = merged.at("/open")
    assert found is not None
    assert found.status.st_mode & 0o7777 == 0o1777
    project.write(
        test_it="""
import os
import subprocess
import pytest

@pytest.mark.isolate(image="top")
def test_it():
    said = subprocess.run(["/bin/sh", "-c", "read x </etc/link; echo $x $COLOUR"], stdout=subprocess.PIPE).stdout
    assert said == b"made blue\\n"
    assert os.listdir("/tree") == ["new"]
    assert os.stat("/etc/made").st_nlink == 2
"""
    )
    project.isolated().assert_outcomes(passed=1)


@pytest.mark.usefixtures("base")
def test_a_command_that_fails_shows_what_it_said_and_leaves_no_layer(folder: Path, images: Images) -> None:
    write(folder, "top", 'base = "base"\n[[layer]]\nrun = "echo it is broken; exit 3"\n')
    assert "ended with status 3:\nit is broken" in images("build", "top", status=1)
    write(folder, "top", 'base = "base"\n[[layer]]\nrun = ["/bin/none"]\n')
    assert "/bin/none: No such file or directory" in images("build", "top", status=1)
    assert len(Store().layers()) == 2


def test_an_archive_with_another_digest_is_refused(folder: Path, images: Images) -> None:
    write(folder, "bad", f'[[layer]]\ntar = "root.tar"\nsha256 = "{"0" * 64}"\n')
    (folder / "bad/root.tar").write_bytes(tar(entry("a", "1")))
    assert "root.tar is damaged: its digest is sha256:" in images("build", "bad", status=1)
    assert Store().layers() == []


def test_a_command_sees_the_image_and_nothing_else(folder: Path, images: Images, base: None) -> None:
    del base
    script = "for each in /*; do echo $each; done >/seen; echo /root/* /dev/isolate* >>/seen; echo $PATH >>/seen"
    write(folder, "top", f'base = "base"\n[[layer]]\nrun = "{script}"\n')
    images("build", "top")
    (seen,) = (folder.parent / "cache").rglob("fs/seen")
    lines = seen.read_text().splitlines()
    assert set(lines) - {"/lib", "/lib64", "/usr"} == {
        "/bin", "/dev", "/etc", "/proc", "/sys", "/tree", "/seen", "/root/* /dev/isolate*", lines[-1]
    }  # fmt: skip


def test_a_test_on_a_recipe_that_is_not_built_says_how(folder: Path, project: Project) -> None:
    write(folder, "later", '[[layer]]\nfiles."/a" = "b"\n')
    project.write(test_it="import pytest\n@pytest.mark.isolate(image='later')\ndef test_it(): pass\n")
    result = project.isolated()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*cannot use the image. Image later is not built yet: python -m pytest_isolate images build later"]
    )


@fetches_a_package
def test_the_documentation_leads_to_a_first_test_on_an_image(
    folder: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert walk(_REPOSITORY / "docs/images.md", project, monkeypatch) == 2
    assert not list(folder.iterdir())  # the page makes its own


@fetches_a_package
def test_the_image_busybox_is_built_from_debians_package(folder: Path, images: Images, project: Project) -> None:
    shutil.copytree(_REPOSITORY / "fixtures_images/busybox", folder / "busybox")
    assert "busybox: 2 layers" in images("build", "busybox")
    project.write(
        test_it="""
import subprocess, sys
import pytest

@pytest.mark.isolate(image="busybox")
def test_it():
    assert "_sqlite3" not in sys.modules
    import sqlite3
    script = "busybox | head -n 1; ls /bin/awk; cat /etc/debian_version 2>&1"
    said = subprocess.run(["/bin/busybox", "sh", "-c", script], stdout=subprocess.PIPE, text=True).stdout.splitlines()
    assert said[0].startswith("BusyBox v")
    assert said[1:] == ["/bin/awk", "cat: can't open '/etc/debian_version': No such file or directory"]
"""
    )
    project.isolated().assert_outcomes(passed=1)
    assert "CHANGED" not in images("verify", "busybox")
