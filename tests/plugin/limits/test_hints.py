"""A failure that the sandbox may have caused names the key."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.needs("sandbox")
def test_a_failure_that_the_sandbox_may_have_caused_names_the_key(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import os, socket
        import pytest

        @pytest.mark.isolate(disk="1M")
        def test_fills(tmp_path):
            (tmp_path / "full").write_bytes(bytes(2 << 20))

        @pytest.mark.isolate
        def test_connects():
            socket.create_connection(("127.0.0.1", 6379))

        @pytest.mark.isolate
        def test_is_wrong():
            assert False

        @pytest.mark.isolate
        @pytest.mark.xfail
        def test_is_expected_to_fail():
            socket.create_connection(("127.0.0.1", 6379))
        """
    )

    result = project.run("-rx")

    result.assert_outcomes(failed=3, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "*No space left on device*",
            "*- The sandbox as a possible cause -*",
            'disk="1M" is all that the test may write; if that was full, a larger disk=... helps.',
            "*Connection refused*",
            "*- The sandbox as a possible cause -*",
            "127.0.0.1 and ::1 are the sandbox's own; a server on the host's loopback *",
        ]
    )
    assert result.stdout.str().count("possible cause") == 2


@pytest.mark.needs("sandbox")
def test_a_file_that_the_failure_says_was_written_is_told_to_go(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import pathlib
        import pytest

        @pytest.mark.isolate
        def test_compares_with_what_was_found_before():
            found = pathlib.Path(__file__).with_name("found") / "a.txt"
            found.parent.mkdir()
            found.write_text("a")
            pytest.fail(f"not found, created: {found}")
        """
    )

    result = project.run()

    result.assert_outcomes(failed=1)
    root = project.pytester.path
    result.stdout.fnmatch_lines(
        [
            "*- The sandbox as a possible cause -*",
            f"{root}/found/a.txt goes with the sandbox, so the next run *: writable=[[]'{root}'] keeps it.",
        ]
    )


@pytest.mark.needs("sandbox")
def test_what_a_test_misses_of_an_earlier_one_names_that_test(project: Any) -> None:
    project.pytester.makepyfile(
        """
        import os, socket, sqlite3, subprocess
        import pytest

        class TestInTurn:
            def test_first(self):
                os.mkdir("out")
                with open("out/data.txt", "w"): pass
                with sqlite3.connect("app.db") as database:
                    database.execute("create table users (name)")
                TestInTurn.ready = True
                os.environ["READY"] = "1"

            def test_file(self):
                open("out/data.txt")

            def test_program(self):
                subprocess.run(["cat", "out/data.txt"], check=True)

            def test_table(self):
                sqlite3.connect("app.db").execute("select * from users")

            def test_attribute(self):
                assert self.ready

            def test_variable(self):
                os.environ["READY"]

            def test_writes_it_itself(self):
                os.mkdir("out")
                with open("out/data.txt", "w"): pass
                assert os.listdir("out") == []
        """
    )

    result = project.isolated()

    result.assert_outcomes(passed=1, failed=6)
    first = "test_what_a_test_misses_of_an_earlier_one_names_that_test.py::TestInTurn::test_first, in"
    result.stdout.fnmatch_lines(
        [
            *(
                "*_ TestInTurn.test_file _*",
                "*possible cause*",
                f"*/out/data.txt was made by {first} a sandbox that is gone now.*",
            ),
            *("*_ TestInTurn.test_program _*", "*possible cause*", f"*/out/data.txt was made by {first} *"),
            *("*_ TestInTurn.test_table _*", "*possible cause*", f"*/app.db was made by {first} *"),
            *("*_ TestInTurn.test_attribute _*", "*possible cause*", f"'ready' is set by {first} *"),
            *("*_ TestInTurn.test_variable _*", "*possible cause*", f"'READY' is set by {first} *"),
        ]
    )
    assert result.stdout.str().count("possible cause") == 5


@pytest.mark.needs("sandbox")
@pytest.mark.parametrize("options", [(), ("-n1",)])
def test_a_wait_for_a_thread_of_a_higher_scoped_fixture_names_that_thread(
    project: Any, options: tuple[str, ...]
) -> None:
    project.pytester.makepyfile(
        """
        import queue, threading
        import pytest

        @pytest.fixture(scope="module")
        def echo():
            asked, told = queue.Queue(), queue.Queue()
            thread = threading.Thread(target=lambda: [told.put(x) for x in iter(asked.get, None)], name="echoes")
            thread.start()
            yield lambda x: (asked.put(x), told.get(timeout=0.1))
            asked.put(None)
            thread.join()

        @pytest.mark.isolate
        def test_waits_for_its_own():
            queue.Queue().get(timeout=0.1)

        @pytest.mark.isolate
        def test_waits(echo):
            echo(1)

        @pytest.mark.isolate
        def test_fails_beside_it(echo):
            assert False

        @pytest.mark.isolate
        def test_has_a_failure_of_its_own():
            assert False
        """
    )

    result = project.run(*options)

    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(
        [
            *("*possible cause*", "*no threads of pytest's own process (here echoes)*no_isolate."),
            *("*possible cause*", "The fixture echo runs a thread*"),
        ]
    )
    assert result.stdout.str().count("possible cause") == 2


WAITING = """
import _thread, ctypes, queue, threading, time
import pytest

def serve(asked, told):
    for x in iter(asked.get, None): told.put(x)

asked, told = queue.Queue(), queue.Queue()

@pytest.fixture(scope="module")
def ready():
    {start}

def test_waits(ready):
    asked.put(1)
    told.get()
"""
LIBRARY = """
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
static void *work(void *unused) { for (;;) pause(); return unused; }
void load(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, NULL)) abort();
}
"""
INSIDE = '"isolate_fixtures_inside = ready" in the ini file'
STARTS = {
    "threading.Thread(target=serve, args=(asked, told), name='a server', daemon=True).start()": ("a server", INSIDE),
    "_thread.start_new_thread(serve, (asked, told)), time.sleep(0.2)": ("serve (_thread)", INSIDE),
    "ctypes.CDLL('LIBRARY').load()": ("one without a name (native)", INSIDE),
    "pass\n_thread.start_new_thread(serve, (asked, told))": ("serve (_thread)", "a function-scoped fixture"),
    "pass\nthreading.Thread(target=serve, args=(asked, told), name='x', daemon=True).start()": ("x", "function-scoped"),
}


@pytest.mark.needs("sandbox", "compiler")
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("options", [(), ("-n1",)])
def test_the_hint_beside_a_time_out_sees_each_kind_of_thread(
    project: Any, start: str, options: tuple[str, ...]
) -> None:
    name, way = STARTS[start]
    library = project.compile(LIBRARY) if "LIBRARY" in start else ""
    project.write(test_it=WAITING.format(start=start.replace("LIBRARY", library)))

    result = project.run("--isolate-all", "--isolate-timeout=1", *options)

    result.assert_outcomes(failed=1)
    (hint,) = [line for line in result.outlines if line.startswith("A sandbox has no threads")]
    assert f"(here {name})" in hint
    assert way in hint
