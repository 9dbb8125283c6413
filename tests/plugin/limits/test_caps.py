"""Caps hold for the whole process tree, and breaking one is a failure that names it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.project import indent

#: Ways to use 200 MB: in the test, in a process of a process, in memory shared between processes, in a file on a tmpfs.
EATERS = {
    "the test itself": "eaten = bytearray(200 << 20)",
    "a grandchild": """
        code = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', 'bytearray(200 << 20)']))"
        subprocess.run([sys.executable, "-c", code])
    """,
    "a shared mapping": """
        shared = mmap.mmap(-1, 200 << 20)
        for page in range(0, 200 << 20, 4096):
            shared[page] = 1
    """,
    "a file in /dev/shm": """
        with open("/dev/shm/eaten", "wb") as file:
            for _ in range(200):
                file.write(bytes(1 << 20))
    """,
}


@pytest.mark.needs("sandbox", "memory")
@pytest.mark.parametrize("way", EATERS)
def test_200_megabytes_under_a_cap_of_50_are_a_failure_that_names_the_cap(project: Any, way: str) -> None:
    project.pytester.makepyfile(
        f"""
import mmap, subprocess, sys
import pytest

@pytest.mark.isolate(memory="50M")
def test_eats():
    print("eating")
{indent(EATERS[way])}

@pytest.mark.isolate(memory="50M")
def test_after_it():
    assert True
"""
    )

    result = project.run()

    result.assert_outcomes(failed=1, passed=1)
    result.stdout.re_match_lines([r".*exceeded memory=50M \(peak [45]\d\.\dM, OOM-killed\).*"])
    result.stdout.fnmatch_lines(["*Captured stdout call*", "eating"])


@pytest.mark.needs("sandbox", "memory")
def test_20_megabytes_under_a_cap_of_50_pass_though_the_parent_holds_500_megabytes_of_objects(
    project: Any,
) -> None:
    project.pytester.makepyfile(
        """
        import gc
        import pytest

        HELD = [{"number": i} for i in range(2_000_000)]  # some 500 MB with what they refer to

        @pytest.mark.isolate(memory="50M")
        def test_eats_little():
            eaten = bytearray(20 << 20)
            gc.collect()  # must not copy what the parent holds
            assert len(eaten) == 20 << 20
        """
    )

    result = project.run()

    result.assert_outcomes(passed=1)


@pytest.mark.needs("sandbox", "cpu")
def test_a_quota_of_a_quarter_core_holds(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import time
        import pytest

        @pytest.mark.isolate(cpus=0.25)
        def test_spins():
            wall, cpu = time.monotonic(), time.process_time()
            while time.monotonic() < wall + 2:
                pass
            assert (time.process_time() - cpu) / (time.monotonic() - wall) < 0.35
        """
    )

    result = project.run()

    result.assert_outcomes(passed=1)


@pytest.mark.needs("sandbox", "pids")
def test_forks_beyond_the_cap_fail_with_eagain(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import errno, os, signal, time
        import pytest

        @pytest.mark.isolate(pids=20)
        def test_forks():
            children = []
            with pytest.raises(BlockingIOError) as caught:
                for _ in range(30):
                    if (child := os.fork()) == 0:
                        time.sleep(60)
                    children.append(child)
            assert caught.value.errno == errno.EAGAIN
            assert 15 <= len(children) <= 20
        """
    )

    result = project.run()

    result.assert_outcomes(passed=1)


@pytest.mark.needs("sandbox", "pids")
def test_a_fork_bomb_fails_and_the_report_names_the_cap(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import os, time
        import pytest

        @pytest.mark.isolate(pids=20)
        def test_bomb():
            while True:
                if os.fork() == 0:
                    time.sleep(60)

        @pytest.mark.isolate(pids=20)
        def test_after_it():
            assert True
        """
    )

    result = project.run()

    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*hit pids=20*"])


@pytest.mark.needs("sandbox")
def test_writing_beyond_the_disk_cap_fails_with_enospc(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import errno
        import pytest

        @pytest.mark.isolate(disk="20M")
        def test_fills(tmp_path):
            with pytest.raises(OSError) as caught, open(tmp_path / "full", "wb") as file:
                for _ in range(40):
                    file.write(bytes(1 << 20))
                    file.flush()
            assert caught.value.errno == errno.ENOSPC
        """
    )

    result = project.run()

    result.assert_outcomes(passed=1)


@pytest.mark.needs("sandbox", "cpuset")
def test_a_cpuset_of_core_0_leaves_one_core(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import os, subprocess
        import pytest

        @pytest.mark.isolate(cpuset="0")
        def test_one_core():
            assert os.sched_getaffinity(0) == {0}
            assert subprocess.check_output(["nproc"], text=True) == "1\\n"
        """
    )

    result = project.run()

    result.assert_outcomes(passed=1)


@pytest.mark.needs("sandbox", "io")
def test_reading_from_the_disk_is_throttled(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import mmap, os, time
        import pytest

        @pytest.mark.isolate(io={"read": "1M"})
        def test_reads_past_the_cache(request):
            fd = os.open(request.path.with_name("big"), os.O_RDONLY | os.O_DIRECT)
            page_aligned = mmap.mmap(-1, 1 << 20)
            started = time.monotonic()
            while os.readv(fd, [page_aligned]):
                pass
            assert time.monotonic() - started > 1
        """
    )
    project.path.joinpath("big").write_bytes(bytes(4 << 20))

    result = project.run()

    result.assert_outcomes(passed=1)


@pytest.mark.needs("sandbox", "memory")
def test_xfail_applies_to_a_broken_limit(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.xfail(strict=True)
        @pytest.mark.isolate(memory="50M")
        def test_eats():
            bytearray(200 << 20)

        @pytest.mark.xfail(raises=ValueError)
        @pytest.mark.isolate(memory="50M")
        def test_eats_but_was_to_raise():
            bytearray(200 << 20)
        """
    )

    result = project.run()

    result.assert_outcomes(xfailed=1, failed=1)
