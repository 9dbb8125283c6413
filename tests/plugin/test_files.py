"""A test sees the host's files and may change them all; the host, and the next test, see none of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.needs("sandbox")


def test_removing_etc_usr_lib_and_home_is_over_with_the_test_and_listed(project: Any) -> None:
    home = project.path  # as pytester sets it for its runs
    (home / "letter").write_text("dear")
    before = {folder: sorted(os.listdir(folder)) for folder in ("/etc", "/usr/lib")}
    project.pytester.makepyfile(
        """
        import os, subprocess
        import pytest

        @pytest.mark.isolate
        def test_removes():
            home = os.environ["HOME"]
            subprocess.run(["rm", "-rf", "/etc", "/usr/lib", home], stderr=subprocess.DEVNULL)
            assert not os.path.exists(home) or not os.listdir(home)
            if os.getuid() == 0:
                assert not os.path.exists("/etc/passwd")

        @pytest.mark.isolate
        def test_next():
            assert open(os.environ["HOME"] + "/letter").read() == "dear"
            assert open("/etc/passwd").read()
        """
    )

    result = project.run("-rP")

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*Files changed in the sandbox*", f"D {home}*"])
    if os.getuid() == 0:
        result.stdout.fnmatch_lines_random(["D /etc*", "D /usr/lib*"])
    assert (home / "letter").read_text() == "dear"
    assert {folder: sorted(os.listdir(folder)) for folder in before} == before


def test_files_in_every_place_are_private_to_the_test(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import os
        import pytest

        PLACES = {p for p in ("/tmp", "/var/tmp", "/dev/shm", os.getcwd(), os.environ["HOME"]) if os.access(p, os.W_OK)}

        @pytest.mark.isolate
        @pytest.mark.parametrize("turn", range(2))
        def test_writes(turn):
            for place in PLACES:
                with open(f"{place}/isolate-mark", "x") as file:
                    file.write("x")
        """
    )

    result = project.run()

    result.assert_outcomes(passed=2)
    for place in ("/tmp", "/var/tmp", "/dev/shm", project.path, Path.home()):
        assert not Path(place, "isolate-mark").exists()


def test_a_writable_path_that_does_not_exist_is_named(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def made(pytestconfig):
            (pytestconfig.rootpath / "later").mkdir()

        @pytest.mark.isolate(writable="never")
        def test_never(): pass

        @pytest.mark.isolate(writable="later")
        def test_later(made): open("later/file", "w").close()
        """
    )

    result = project.run("--isolate-unsupported=skip")  # it is no lack of the host's

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([f"*cannot bind through (writable=) on {project.path}/never: ENOENT*Make it before*"])
    assert (project.path / "later" / "file").exists()


def test_what_a_writable_path_gets_stays(project: Any) -> None:
    out = project.pytester.mkdir("out")
    project.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.isolate(writable="out")
        def test_writes():
            open("out/kept", "w").write("kept")
            open("lost", "w").write("lost")
        """
    )

    result = project.run()

    result.assert_outcomes(passed=1)
    assert (out / "kept").read_text() == "kept"
    assert not (project.path / "lost").exists()


def test_user_root_is_root_inside_only(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import os, subprocess
        import pytest

        @pytest.mark.isolate(user="root")
        def test_root():
            assert os.getuid() == os.getgid() == 0
            subprocess.run(["hostname", "renamed"], check=True)
            with pytest.raises(PermissionError):
                os.mknod("/tmp/disk", 0o60600, os.makedev(254, 0))
            for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/mm/ksm/run"):
                if os.path.exists(path):
                    with pytest.raises(OSError):
                        open(path, "w").write("x")

        @pytest.mark.isolate
        def test_same():
            assert os.getuid() == UID
            assert os.uname().nodename == "isolated"
        """.replace("UID", str(os.getuid()))
    )

    result = project.run()

    result.assert_outcomes(passed=2)


def test_all_eight_namespaces_are_fresh(project: Any) -> None:
    kinds = [
        "cgroup",
        "ipc",
        "mnt",
        "net",
        "pid",
        "user",
        "uts",
        *(["time"] if Path("/proc/self/ns/time").exists() else []),
    ]
    outside = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in kinds}
    project.pytester.makepyfile(
        f"""
        import os
        import pytest

        OUTSIDE = {outside!r}

        @pytest.mark.isolate
        def test_all():
            inside = {{kind: os.readlink(f"/proc/self/ns/{{kind}}") for kind in OUTSIDE}}
            assert [kind for kind in OUTSIDE if inside[kind] == OUTSIDE[kind]] == []
            assert os.getpid() != 1
        """
    )

    result = project.run()

    result.assert_outcomes(passed=1)
