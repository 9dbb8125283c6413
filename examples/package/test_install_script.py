"""The install script of a Debian package, run as root in a Debian that is thrown away.

Run it by ``pytest examples/package``, after ``python -m pytest_isolate images build debian-slim``.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.isolate(image="debian-slim", user="root", timeout=120)

CONTROL = """\
Package: greeter
Version: 1.0
Architecture: all
Maintainer: Nobody <nobody@example.org>
Description: makes a user and greets him
"""
POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    echo 'greeter:x:990:990::/var/lib/greeter:/usr/sbin/nologin' >>/etc/passwd
    mkdir -p /var/lib/greeter
    chmod 750 /var/lib/greeter
fi
"""
POSTRM = """\
#!/bin/sh
set -e
if [ "$1" = purge ]; then
    sed -i /^greeter:/d /etc/passwd
    rm -rf /var/lib/greeter
fi
"""


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


@pytest.fixture
def package(tmp_path):
    for name, text in (("control", CONTROL), ("postinst", POSTINST), ("postrm", POSTRM)):
        file = tmp_path / "greeter/DEBIAN" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
    (tmp_path / "greeter/etc").mkdir()
    (tmp_path / "greeter/etc/greeting").write_text("hello\n")
    run("dpkg-deb", "--build", "--root-owner-group", "-Znone", str(tmp_path / "greeter"), str(tmp_path / "greeter.deb"))
    return tmp_path / "greeter.deb"


def test_it_makes_its_user_and_its_folder(package):
    run("dpkg", "-i", str(package))

    assert "greeter:x:990" in Path("/etc/passwd").read_text()
    assert oct(os.stat("/var/lib/greeter").st_mode) == "0o40750"
    assert run("cat", "/etc/greeting") == "hello\n"


def test_purging_it_leaves_nothing(package):
    assert "greeter" not in Path("/etc/passwd").read_text()  # the test before it was somewhere else
    run("dpkg", "-i", str(package))

    run("dpkg", "--purge", "greeter")

    assert "greeter" not in Path("/etc/passwd").read_text()
    assert not Path("/var/lib/greeter").exists()
    assert not Path("/etc/greeting").exists()
