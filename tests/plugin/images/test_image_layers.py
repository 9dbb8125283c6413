"""What becomes of the layers of an image that tests run on, and which images are refused."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pytest_isolate.__main__ import main
from pytest_isolate.linux.remove_tree import remove_tree
from tests.support.image_layers import entry, layout, link, tar
from tests.support.on_image import BASE, SH, passes
from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")


def test_a_kept_layer_is_compared_with_the_image(on_image: Project, capsys: pytest.CaptureFixture[str]) -> None:
    test = """
    with open("/etc/motd", "a") as file:
        file.write("and more\\n")
    with open("text", "a") as file:
        file.write("of the project\\n")
"""
    (on_image.path / "text").write_text("old\n")
    passes(on_image, f"def test_it():{test}", "--isolate-keep=all")

    assert main(["kept", "diff", "test_it.py::test_it"]) == 0

    shown = capsys.readouterr().out
    assert "--- a/etc/motd\n+++ b/etc/motd\n@@ -1 +1,2 @@\n hello\n+and more\n" in shown
    assert f"+++ b{on_image.path}/text\n@@ -1 +1,2 @@\n old\n+of the project\n" in shown
    assert main(["kept", "remove", "--all"]) == 0


def test_what_a_test_writes_is_gone_and_the_layers_stay_as_they_were(on_image: Project) -> None:
    on_image.write(test_it=SH + _WRITING)
    result = on_image.isolated("-rP")
    result.assert_outcomes(passed=2)
    changed = sorted(line for line in result.outlines if re.match(r"[ADM] /", line) and "pytest-" not in line)
    expected = ["A /etc/new", "A /tmp/z", "D /tree/file", "M /etc/motd"]
    assert [line for line in dict.fromkeys(changed) if str(on_image.path) not in line] == expected
    assert not (on_image.path / "here").exists()
    assert main(["images", "--folder", str(on_image.path / "fixtures_images"), "verify", "tiny"]) == 0


_WRITING = """
import pathlib

@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    file = tmp_path_factory.mktemp("shared") / "file"
    file.write_text("from outside")
    return file

@pytest.mark.parametrize("turn", [1, 2])
def test_it(turn, tmp_path, shared):
    assert shared.read_text() == "from outside"
    assert sh("cat /etc/motd /tree/file; ls /tree; ls here >/dev/null 2>&1 || echo none") == "hello\\n2file\\nnone\\n"
    (tmp_path / "x").write_text(sh("cat /etc/motd"))
    pathlib.Path("here").write_text("project")
    os.unlink("/tree/file")
    os.rmdir("/tree")
    os.mkdir("/tree")
    assert os.listdir("/tree") == []
    pathlib.Path("/etc/new").write_text("x")
    pathlib.Path("/etc/motd").write_text("y")
    pathlib.Path("/tmp/z").write_text("z")
    with pytest.raises(OSError):
        pathlib.Path(os.__file__).write_text("")
"""


def test_what_is_writable_stays_also_where_the_image_has_nothing(on_image: Project, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    passes(
        on_image,
        f"""
@pytest.mark.isolate(writable={str(tmp_path / "kept")!r})
def test_it():
    sh("echo kept >{tmp_path}/kept/file")
    assert os.listdir({str(tmp_path)!r}) == ["kept"]
""",
    )
    assert (tmp_path / "kept/file").read_text() == "kept\n"


def test_the_test_can_be_root_inside(on_image: Project) -> None:
    passes(
        on_image,
        """
@pytest.mark.isolate(user="root")
def test_it():
    assert os.getuid() == 0
    os.chown("/etc/motd", 0, 0)
    sh("echo x >/etc/motd")
    assert sh("cat /etc/motd") == "x\\n"
""",
    )


def test_links_of_the_image_lead_within_it_and_give_way_to_the_project(on_image: Project) -> None:
    files = [entry("var/moved/", mode=0o1777), entry("var/moved/own", "1"), link("link", "/var/moved")]
    links = [entry(".wh.tmp", ""), link(on_image.path.parts[1], "/var/moved")]
    layout(on_image.path / "fixtures_images/links", BASE, tar(*files), tar(*links))
    on_image.write(
        test_it=SH
        + f"""
@pytest.mark.isolate(image="links")
def test_it(tmp_path):
    (tmp_path / "x").touch()
    assert os.path.exists(__file__)
    assert os.getcwd() == {str(on_image.path)!r}
    assert sh("cat /var/moved/own /link/own") == "11"
"""
    )
    on_image.isolated().assert_outcomes(passed=1)


@pytest.mark.parametrize("path", ["dev", "proc", "sys"])
def test_an_image_with_a_link_where_the_kernels_trees_belong_is_refused(on_image: Project, path: str) -> None:
    """CVE-2026-41579 and others: what is mounted there would be mounted wherever the link leads."""
    layout(on_image.path / "fixtures_images/bad", BASE, tar(link(path, "/etc")))
    on_image.write(test_it="import pytest\n@pytest.mark.isolate(image='bad')\ndef test_it(): pass\n")
    result = on_image.isolated()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*cannot use the image. Image bad has /{path} as something other than a directory*"])


def test_an_image_that_is_refused_is_an_error_in_the_set_up_that_says_why(on_image: Project) -> None:
    layout(on_image.path / "fixtures_images/bad", tar(entry("../out", "x")))
    on_image.write(
        test_it="""
import pytest

@pytest.mark.isolate(image="bad")
@pytest.mark.parametrize("turn", [1, 2])
def test_it(turn): pass
"""
    )
    result = on_image.isolated()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        ["*cannot use the image. Image */bad: its layer sha256:* is refused: '../out' leads out*"]
    )


def test_workers_of_xdist_share_what_one_of_them_unpacks(on_image: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xdist")
    place = on_image.path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    text = "\n@pytest.mark.parametrize('n', range(6))\ndef test_it(n):\n    assert sh('cat /etc/motd') == 'hello\\n'\n"
    passes(on_image, text, "-n2", number=6)
    assert len(list(place.glob("*/*/layers/*/layer.json"))) == 2
    assert list(place.glob("*/*/tmp/*")) == []
    remove_tree(place)


def test_an_unknown_image_is_a_usage_error_with_its_place_and_the_images_there_are(project: Project) -> None:
    (project.path / "fixtures_images/busybox").mkdir(parents=True)
    project.write(test_it="import pytest\n\n@pytest.mark.isolate(image='busibox')\ndef test_it(): pass\n")
    there = f"there is no such image in {project.path}/fixtures_images; there are busybox. Did you mean busybox?"

    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: test_it.py:3: @pytest.mark.isolate: image='busibox': {there}"])

    result = project.run("--isolate-image=busibox")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: command line: --isolate-image: image='busibox': {there}"])

    result = project.run("-o", "isolate_image=../x")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*isolate_image: image='../x': allowed is the name of an image: letters, *"])


def test_images_can_be_in_another_folder_and_a_marker_can_do_without(on_image: Project) -> None:
    (on_image.path / "fixtures_images").rename(on_image.path / "roots")
    host = next(path for path in ("/usr/bin/env", "/bin/env", "/etc/passwd") if os.path.exists(path))
    passes(
        on_image,
        f"""
def test_image():
    assert os.path.exists("/etc/motd") and not os.path.exists({host!r})

@pytest.mark.isolate(image=None)
def test_host():
    assert os.path.exists({host!r})
""",
        "-o",
        "isolate_images_path=roots",
        number=2,
    )
