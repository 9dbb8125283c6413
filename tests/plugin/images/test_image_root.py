"""Tests that run on an image: what they see of it, and that the host's Python goes on under them."""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_isolate.__main__ import main
from pytest_isolate.images.root import host_python
from pytest_isolate.linux.remove_tree import remove_tree
from tests.support.image_layers import entry, layout, link, programs, tar
from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")

ROOT = os.geteuid() == 0


BASE = tar(
    *(entry(path, content, mode=0o755) for path, content in programs("sh", "cat", "ls").items()),
    entry("etc/old", "1"),
    entry("tree/file", "2"),
    entry("tmp/", mode=0o1777),
)
TOP = tar(entry("etc/.wh.old", ""), entry("etc/motd", "hello\n"))
SH = """
import os, subprocess, sys
import pytest

def sh(script):
    done = subprocess.run(["/bin/sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store for all tests here, which unpack the same image."""
    place = tmp_path_factory.mktemp("cache")
    yield place
    remove_tree(place)


@pytest.fixture
def on_image(project: Project, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with an image; its tests use ``sh()``."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    layout(project.path / "fixtures_images/tiny", BASE, TOP, env=["FROM_IMAGE=yes", "PATH=/opt/tool:/bin"])
    project.options += ["--isolate-image=tiny"]
    return project


def passes(project: Project, text: str, *arguments: str, number: int = 1) -> pytest.RunResult:
    project.write(test_it=SH + text)
    result = project.isolated(*arguments)
    result.assert_outcomes(passed=number)
    return result


def test_programs_see_the_image_and_nothing_of_the_host(on_image: Project) -> None:
    host = [path for path in ("/usr/bin/env", "/etc/debian_version", "/boot", "/opt", "/srv") if os.path.exists(path)]
    assert host
    passes(
        on_image,
        f"""
def test_it():
    assert sh("cat /etc/motd") == "hello\\n"
    assert sh("echo $FROM_IMAGE $PATH").startswith("yes /opt/tool:/bin:")
    assert subprocess.run(["cat", "/etc/motd"], stdout=subprocess.PIPE).stdout == b"hello\\n"
    assert sorted(os.listdir("/bin")) == ["cat", "ls", "sh"]
    assert not os.path.exists("/etc/old")
    for path in {host}:
        assert not os.path.exists(path), path
    assert sh("cat /proc/1/comm") == "isolate-init\\n"
""",
    )


@pytest.mark.parametrize("folder", [[], [f"--basetemp=/dev/shm/isolate-test-{os.getpid()}"]])
def test_shared_memory_of_a_fixture_is_found_by_name(folder: list[str], on_image: Project) -> None:
    passes(
        on_image,
        """
from multiprocessing import shared_memory

@pytest.fixture(scope="session")
def block():
    memory = shared_memory.SharedMemory(create=True, size=10)
    yield memory
    memory.close()
    memory.unlink()

def test_it(block, tmp_path):
    other = shared_memory.SharedMemory(name=block.name)
    assert sh(f"cat /dev/shm/{block.name}") == "\\0" * other.size
    other.close()
    (tmp_path / "x").touch()
    assert sh(f"ls {tmp_path}") == "x\\n"
""",
        *folder,
    )
    if folder:
        remove_tree(Path(folder[0].partition("=")[2]))


@pytest.mark.parametrize("hosts", ["", "127.0.0.9 of-image\n127.0.0.1 localhost"])
def test_the_own_name_has_an_address_beside_those_that_the_image_names(hosts: str, on_image: Project) -> None:
    if hosts:
        layout(on_image.path / "fixtures_images/named", BASE, tar(entry("etc/hosts", hosts)))
        on_image.options += ["--isolate-image=named"]
    result = passes(
        on_image,
        f"""
import socket

def test_it():
    assert socket.gethostbyname(socket.gethostname()) == socket.gethostbyname("localhost") == "127.0.0.1"
    assert {hosts!r} in sh("cat /etc/hosts")

@pytest.mark.isolate(hostname="localhost")
def test_no_name_is_added_twice():
    assert sh("cat /etc/hosts").count("localhost") == {3 if not hosts else 1}
""",
        "-v",
        number=2,
    )
    result.stdout.no_fnmatch_line("*/etc/hosts*")


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


@pytest.mark.skipif(not os.access("/dev/autofs", os.R_OK), reason="this user may not open a device that is tried here")
def test_a_device_of_the_host_is_let_in(on_image: Project) -> None:
    passes(on_image, "def test_it(): os.close(os.open('/dev/autofs', os.O_RDONLY))", "--isolate-device=/dev/autofs")


def test_modules_and_extensions_are_imported_inside_for_the_first_time(on_image: Project) -> None:
    passes(
        on_image,
        """
def test_it():
    import importlib
    for name in ("ssl", "sqlite3", "_ctypes", "lzma", "_decimal", "curses", "colorsys", "xml.etree.ElementTree"):
        importlib.import_module(name)
    import ctypes, socket, sqlite3, ssl, threading, zoneinfo
    assert sqlite3.connect(":memory:").execute("select 1").fetchone() == (1,)
    thread = threading.Thread(target=importlib.import_module, args=("wsgiref.simple_server",))
    thread.start()
    thread.join()
    assert socket.getaddrinfo("localhost", 80)

@pytest.mark.skipif(not os.path.exists("/usr/share/zoneinfo"), reason="the host has no time zones")
def test_time_zones():
    import zoneinfo
    assert zoneinfo.ZoneInfo("Europe/Berlin")

@pytest.mark.skipif(not os.path.exists("/etc/ssl/certs/ca-certificates.crt"), reason="the host has no certificates")
def test_certificates():
    import ssl
    paths = ssl.get_default_verify_paths()
    assert os.path.exists(paths.cafile or paths.capath or paths.openssl_capath)
""",
        "-rs",
        number=3,
    )


def test_a_failing_assertion_has_its_traceback_with_source_lines(on_image: Project) -> None:
    on_image.write(
        helper="""
def check(value):
    assert value == 1, "not one"
""",
        test_it="""
import json
import helper

def test_helper():
    helper.check(2)

def test_library():
    json.loads("{")
""",
    )
    result = on_image.isolated("--tb=long")
    result.stdout.fnmatch_lines(
        ['>       assert value == 1, "not one"', "E       AssertionError: not one", "*raise JSONDecodeError*"]
    )


def test_modules_at_a_place_of_the_image_are_found_aside_and_programs_see_the_images(on_image: Project) -> None:
    """As with a Python of the same version in the image, at the same place."""
    stdlib = sysconfig.get_path("stdlib")
    wrong = "raise ImportError('from the image')\n"
    files = [entry(f"{stdlib}/{name}", wrong) for name in ("colorsys.py", "xml/sax/handler.py", "json/decoder.py")]
    layout(on_image.path / "fixtures_images/python", BASE, tar(*files))
    on_image.write(
        test_it=SH
        + f"""
@pytest.mark.isolate(image="python")
def test_it():
    import colorsys, xml.sax.handler, sqlite3, _ctypes
    assert sh("cat {stdlib}/colorsys.py").startswith("raise ImportError")
    assert sh("ls {stdlib}").split() == ["colorsys.py", "json", "xml"]
    import json
    try:
        json.loads("{{")
    except ValueError as error:
        import traceback
        assert "self.scan_once(s, idx)" in traceback.format_exc()
"""
    )
    on_image.isolated().assert_outcomes(passed=1)


def test_shared_objects_of_the_image_are_not_taken_by_the_hosts_extensions(on_image: Project) -> None:
    """Neither one that is whole, and that the linker finds but has not loaded, nor one that is none."""
    folder = next(path for path in host_python.libraries() if os.path.exists(f"{path}/libgcc_s.so.1"))
    known = re.compile(r"lib(sqlite3|ffi|ssl|crypto|bz2|lzma)\.so\.\d+")
    names = [name for name in os.listdir(folder) if known.fullmatch(name)]
    layers = [entry(f"{folder}/libgcc_s.so.1", Path(folder, "libgcc_s.so.1").read_bytes())]
    layers += [entry(f"{folder}/{name}", "none") for name in names]
    layout(on_image.path / "fixtures_images/other", BASE, tar(*layers))
    on_image.write(
        test_it="""
import pytest

@pytest.mark.isolate(image="other")
def test_it():
    import _ctypes, sqlite3, ssl, bz2, lzma
    assert sqlite3.connect(":memory:").execute("select 1").fetchone() == (1,)
"""
    )
    on_image.isolated().assert_outcomes(passed=1)


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


# ---------------------------------------------------------------------------------------------------------- names


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
