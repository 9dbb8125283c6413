"""What pytest does, and does not, while a test runs."""

from __future__ import annotations

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.needs("sandbox")


def test_pytest_runs_no_python_while_a_test_runs_but_where_it_has_threads(project: Project) -> None:
    (project.path / "log").mkdir()
    project.write(
        notes=f"""
        def note(what):
            with open({str(project.path / "log" / "it")!r}, "a") as file:
                print(what, file=file)
        """,
        conftest="""
        import os, threading
        import pytest
        from notes import note
        os.register_at_fork(after_in_parent=lambda: note("pytest goes on"))
        @pytest.fixture(scope="session")
        def thread():
            end = threading.Event()
            thread = threading.Thread(target=end.wait)
            thread.start()
            yield
            end.set()
            thread.join()
        """,
        test_it=f"""
        import pytest, time
        from notes import note
        pytestmark = pytest.mark.isolate(writable={str(project.path / "log")!r})
        def test_alone():
            time.sleep(0.3)
            note("alone")
        def test_beside_a_thread(thread):
            time.sleep(0.3)
            note("beside a thread")
        """,
    )
    project.run().assert_outcomes(passed=2)
    lines = (project.path / "log" / "it").read_text().splitlines()
    assert lines == ["alone", "pytest goes on", "pytest goes on", "beside a thread"]


def test_reports_larger_than_a_pipe_arrive_also_of_a_test_that_dies(project: Project) -> None:
    project.write(
        test_it="""
        import os, pytest
        @pytest.fixture
        def large(record_property):
            record_property("large", "x" * 1_000_000)
        @pytest.mark.isolate(timeout=20)
        def test_ends(large): pass
        @pytest.mark.isolate(timeout=20)
        def test_dies(large):
            print("y" * 300_000)
            os.abort()
        """
    )
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    assert "SIGABRT" in result.stdout.str()
    assert "y" * 300_000 in result.stdout.str()


def test_a_test_that_asks_and_dies_before_it_is_answered_has_just_died(project: Project) -> None:
    project.write(
        test_it="""
        import os, pytest, stat, time
        from pytest_isolate.sandbox import wire
        from pytest_isolate.sandbox.channel import Frame
        @pytest.mark.isolate(timeout=20)
        def test_asks():
            sockets = [int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
            control, = (fd for fd in sockets if stat.S_ISSOCK(os.fstat(fd).st_mode))
            wire.send(control, [Frame.USAGE, None])
            time.sleep(0.3)
            os._exit(3)
        @pytest.mark.isolate
        def test_after(): pass
        """
    )
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*exited with status 3*"])


def test_a_faulthandler_timeout_is_set_anew_inside_without_a_warning(project: Project) -> None:
    (project.path / "pytest.ini").write_text("[pytest]\nfaulthandler_timeout = 30\nfilterwarnings = error\n")
    project.write(
        test_it="""
        import pytest
        @pytest.mark.isolate
        def test_it(): pass
        """
    )
    project.run().assert_outcomes(passed=1)


def test_the_watchdog_of_a_conftest_file_is_cancelled_with_a_word(project: Project) -> None:
    project.write(
        conftest="""
        import faulthandler
        def pytest_configure(config): faulthandler.dump_traceback_later(1800, exit=True)
        """,
        test_it="""
        import faulthandler
        def test_fails(): assert "one" == "other"
        def test_cancels(): faulthandler.cancel_dump_traceback_later()
        def test_starts_one():
            faulthandler.dump_traceback_later(1800)
            faulthandler.cancel_dump_traceback_later()
        """,
    )

    result = project.isolated("--isolate-stall-timeout=5")

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["isolate: faulthandler.dump_traceback_later() is cancelled, *", "E *'one' == 'other'"])
    result.stdout.no_fnmatch_line("*native thread*")


def test_a_run_without_a_watchdog_says_nothing_of_one(project: Project) -> None:
    project.write(
        conftest="""
        import ctypes
        ctypes.CDLL(None).pthread_create(ctypes.byref(ctypes.c_ulong()), None, ctypes.CDLL(None).pause, None)
        """,
        test_it="def test_it(): pass",
    )

    result = project.isolated()

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["isolate: 1 native thread *"])
    result.stdout.no_fnmatch_line("*dump_traceback_later*")
