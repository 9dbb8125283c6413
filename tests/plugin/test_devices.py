"""Devices of the host that are let in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.needs("sandbox")
ROOT = os.geteuid() == 0
#: Such as may be opened, and nothing happens; no sandbox has one by itself.
_HARMLESS = [path for path in ("/dev/autofs", "/dev/net/tun", "/dev/fuse", "/dev/kvm") if os.access(path, os.R_OK)]
needs_device = pytest.mark.skipif(not _HARMLESS, reason="this user may open no device that is tried here")


@needs_device
def test_a_device_is_let_in_where_it_is_named_and_only_there(project: Any) -> None:
    project.pytester.makepyfile(f"""
        import os, stat
        import pytest

        @pytest.mark.isolate(devices={_HARMLESS[0]!r})
        def test_named():
            os.close(os.open({_HARMLESS[0]!r}, os.O_RDONLY | os.O_NONBLOCK))
            assert stat.S_ISCHR(os.stat({_HARMLESS[0]!r}).st_mode)
            with pytest.raises(OSError, match="not permitted|Read-only"):
                os.utime({_HARMLESS[0]!r}, (1, 1))

        @pytest.mark.isolate
        def test_not_named():
            assert not os.path.exists({_HARMLESS[0]!r})

        @pytest.mark.isolate(devices=[{_HARMLESS[0]!r}, "/dev/full"], network="host", user="root")
        def test_beside_others():
            os.close(os.open({_HARMLESS[0]!r}, os.O_RDONLY | os.O_NONBLOCK))
            with pytest.raises(OSError, match="No space left"):
                os.write(os.open("/dev/full", os.O_WRONLY), b"x")
    """)
    project.run().assert_outcomes(passed=3)


@needs_device
def test_the_command_line_and_the_ini_file_name_them_for_all(project: Any) -> None:
    device = _HARMLESS[0]
    test = f"import os\ndef test_it(): os.close(os.open({device!r}, os.O_RDONLY | os.O_NONBLOCK))"
    project.pytester.makepyfile(test)
    project.run("--isolate-all", f"--isolate-device={device}").assert_outcomes(passed=1)
    project.pytester.makeini(f"[pytest]\nisolate_devices =\n    {device}\n    zero\n")
    project.run("--isolate-all").assert_outcomes(passed=1)


@pytest.mark.skipif(not ROOT, reason="only root may make a network device")
@pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="there is no /dev/net/tun here")
@pytest.mark.parametrize("name", ["/dev/net/tun", "/dev/net"])
def test_a_network_device_is_made_with_tun(name: str, project: Any) -> None:
    project.pytester.makepyfile(f"""
        import fcntl, os, socket, struct
        import pytest

        @pytest.mark.isolate(devices={name!r}, user="root")
        def test_it():
            tun = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(tun, 0x400454ca, struct.pack("16sH22x", b"tun7", 0x1001))  # TUNSETIFF
            assert "tun7" in [name for _, name in socket.if_nameindex()]
    """)
    project.run().assert_outcomes(passed=1)


def test_what_is_no_device_is_a_usage_error_that_says_what_to_write(project: Any) -> None:
    project.pytester.makepyfile("""
        import pytest

        @pytest.mark.isolate(devices="/etc/passwd")
        def test_file(): pass

        @pytest.mark.isolate(devices=["/dev/shm"])
        def test_own(): pass

        @pytest.mark.isolate(devices="/dev/null:/dev/other:rwm")
        def test_words_of_docker(): pass

        @pytest.mark.isolate(devices="/dev/zero:r")
        def test_permissions(): pass

        @pytest.mark.isolate(writable="/dev/fuse")
        def test_writable(): pass
    """)
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: *devices='/etc/passwd': '/etc/passwd' is not in /dev; * there is writable.",
            "ERROR: *devices=*'/dev/shm': each sandbox has a /dev/shm of its own; allowed are *",
            "ERROR: *'/dev/null:/dev/other:rwm': a device is found at its own path*; write '/dev/null'.",
            "ERROR: *'/dev/zero:r': who may open a device is up to its mode and owner; write '/dev/zero'.",
            "ERROR: *writable='/dev/fuse': *write devices='/dev/fuse'.",
        ]
    )


@pytest.mark.skipif(not ROOT, reason="only root may make files in /dev")
def test_a_file_in_dev_is_a_usage_error(project: Any) -> None:
    file = Path(f"/dev/isolate-test-{os.getpid()}")
    file.touch()
    try:
        project.pytester.makepyfile("def test_it(): pass")
        result = project.run("--isolate-all", f"--isolate-device={file}")
    finally:
        file.unlink()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: command line: --isolate-device: devices=*that is no device*"])


def test_a_device_that_is_not_there_is_what_the_host_lacks(project: Any) -> None:
    project.pytester.makepyfile("""
        import pytest

        @pytest.mark.isolate(devices="/dev/no-such-device")
        def test_it():
            pass
    """)
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*devices cannot be enforced here: there is no /dev/no-such-device. Load its driver*"])
    project.run("--isolate-unsupported=skip").assert_outcomes(skipped=1)
    project.run("--isolate-unsupported=degrade").assert_outcomes(passed=1)


def test_a_folder_of_shared_memory_can_be_the_hosts_own(project: Any) -> None:
    project.pytester.makepyfile("""
        import tempfile
        import pytest

        @pytest.fixture(scope="module")
        def file():
            with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
                yield file
                assert file.read() == b"inside"

        @pytest.mark.isolate(writable="/dev/shm")
        def test_it(file):
            with open(file.name, "w") as other:
                other.write("inside")
    """)
    project.run().assert_outcomes(passed=1)
