"""Tests that run on an image: what they see of it, and that the host's Python goes on under them."""

from __future__ import annotations

import os
import re
import sysconfig
from pathlib import Path

import pytest

from pytest_isolate.images.root import host_python
from pytest_isolate.linux.remove_tree import remove_tree
from tests.support.image_layers import entry, layout, tar
from tests.support.on_image import BASE, SH, passes
from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")

ROOT = os.geteuid() == 0


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


# ---------------------------------------------------------------------------------------------------------- names
