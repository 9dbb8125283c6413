"""``--isolate-session``: pytest itself in a sandbox, isolated tests in theirs above it."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pytest_isolate.spec.keys import IN_SESSION
from tests.support.project import Project
from tests.support.session_runs import PATIENCE, start
from tests.support.traces import NOTHING, NUMBER, settled

pytestmark = pytest.mark.needs("sandbox")

MARKED = f"isolate-session-{os.getpid()}"  # in names of files; one of our own, as other workers run tests as well
SUITE = f"""
    import os, shutil, socket, subprocess, time
    import pytest

    PLACES = [os.path.join(os.path.expanduser("~"), "{MARKED}"), "/dev/shm/{MARKED}", "/tmp/{MARKED}", "{MARKED}"]
    if os.access("/etc", os.W_OK):
        PLACES.append("/etc/{MARKED}")
    SOCKETS = [f"{{folder}}/{MARKED}.sock" for folder in ("/tmp", "/run", "/dev/shm") if os.access(folder, os.W_OK)]
    SOCKETS += ["{MARKED}.sock", "./{MARKED}-2.sock"]  # relative ones, as of `ssh-agent -a agent`

    def serve_at(path):
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen()
        return server

    def reaches(path):
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(path) == 0

    @pytest.fixture(scope="session", autouse=True)
    def wide():
        for place in PLACES:
            with open(place, "w") as file: file.write("of the fixture")
        shutil.move("folder", "renamed")
        os.remove("removed")
        shutil.rmtree("made_anew")
        os.mkdir("made_anew")
        subprocess.Popen(["setsid", "sleep", "{NUMBER}"])
        servers = [serve_at(path) for path in SOCKETS]
        with socket.create_server(("127.0.0.1", 15432)):
            yield
            time.sleep(0.3)  # so that two runs have it at the same time

    @pytest.mark.parametrize("place", PLACES)
    def test_sees_what_fixtures_wrote(place):
        assert open(place).read() == "of the fixture"

    def test_sees_what_fixtures_removed_and_renamed():
        assert os.listdir("renamed") == ["file"]
        assert not [name for name in ("folder", "removed", "made_anew/file") if os.path.exists(name)]

    def test_reaches_servers():
        socket.create_connection(("127.0.0.1", 15432)).close()
        assert all(map(reaches, SOCKETS))

    @pytest.fixture(scope="session")
    def late():
        servers = {{name: serve_at(name) for name in ["/tmp/{MARKED}-late"]}}
        yield servers
        for server in servers.values(): server.close()

    def test_reaches_a_server_that_began_after_the_first_sandbox_was_made(late):
        assert reaches("/tmp/{MARKED}-late")

    def test_reaches_the_one_that_has_taken_its_place(serves_anew):
        assert reaches("/tmp/{MARKED}-late")

    @pytest.fixture(scope="session")
    def serves_anew(late):
        late.popitem()[1].close()
        os.remove("/tmp/{MARKED}-late")
        server = serve_at("/tmp/{MARKED}-late")
        yield
        server.close()

    def test_fails():
        assert os.path.exists("passes.txt")
"""


def write_suite(project: Project) -> None:
    """The suite, with something that its fixture removes."""
    project.write(test_it=SUITE)
    for name in ("folder/file", "removed", "made_anew/file"):
        path = project.path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()


def test_two_runs_at_once_leave_what_they_are_told_to_write_and_nothing_else(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_suite(project)
    home = project.path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))

    processes = [
        start(project, "--isolate-all", "-v", f"--junitxml=out/{name}.xml", f"--isolate-report=out/{name}.json")
        for name in "ab"
    ]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]

    assert [process.returncode for process in processes] == [1, 1], outputs
    for text in outputs:
        assert "1 failed, " in text, text
        assert "isolate: session in a sandbox" in text
        assert f"  A /tmp/{MARKED}\n" in text
    assert not [folder for folder in (home, "/tmp", "/dev/shm", "/etc") if Path(folder, MARKED).exists()]
    assert not [folder for folder in ("/tmp", "/run", "/dev/shm") if Path(folder, f"{MARKED}.sock").exists()]
    left = {str(path.relative_to(project.path)) for path in project.path.rglob("*") if path.is_file()}
    assert {"out/a.xml", "out/b.xml", "out/a.json", "test_it.py", ".pytest_cache/v/cache/lastfailed"} <= left
    assert {"folder/file", "removed", "made_anew/file"} <= left
    assert not {MARKED, "renamed/file"} & left
    assert settled() == NOTHING


def test_reports_arrive_in_a_folder_of_the_users_within_one_of_others(project: Project) -> None:
    """The checkout is in such a one where .ci/as-user or a continuous integration has made it."""
    project.write(test_it="def test_it(): pass")
    checkout = Path(__file__).parents[2]
    with TemporaryDirectory(dir=checkout if os.access(checkout, os.W_OK) else project.path) as folder:
        options = [f"--junitxml={folder}/new/a.xml", f"--isolate-report={folder}/b.json", f"--basetemp={folder}/base"]
        output = start(project, "-o", f"cache_dir={folder}/cache", *options).communicate(timeout=PATIENCE)[0]
        left = {name.name for name in Path(folder).iterdir()}

    assert "1 passed" in output, output
    assert "Error" not in output, output
    assert {"new", "b.json", "cache"} <= left


def test_a_run_without_plugins_of_pytest_that_write_passes(project: Project) -> None:
    project.write(test_it="def test_it(): pass")
    without = [f"-pno:{name}" for name in ("logging", "cacheprovider", "junitxml", "tmpdir")]

    output = start(project, *without).communicate(timeout=PATIENCE)[0]

    assert "1 passed" in output, output
    assert "Error" not in output, output


def test_a_run_without_pytests_terminal_says_nothing_and_has_its_exit_status(project: Project) -> None:
    project.write(test_it="def test_it(): pass\ndef test_that_fails(): assert 0")

    process = start(project, "-pno:terminal")
    output = process.communicate(timeout=PATIENCE)[0]

    assert process.returncode == pytest.ExitCode.TESTS_FAILED, output
    assert output == ""


def test_pytest_has_a_number_that_no_test_has(project: Project) -> None:
    """By it libraries such as filelock know that they are in a fork, and begin anew."""
    project.write(
        test_it="""
        import os, subprocess

        OUTSIDE = os.getpid()

        def test_it():
            assert OUTSIDE not in (os.getpid(), int(subprocess.check_output(["sh", "-c", "echo $$"])))
        """
    )

    project.run("--isolate-session", "--isolate-all").assert_outcomes(passed=1)


def test_a_run_goes_on_where_the_last_one_left_off(project: Project) -> None:
    pytest.importorskip("xdist")
    write_suite(project)
    first = start(project, "-q").communicate(timeout=PATIENCE)[0]
    assert "1 failed" in first
    assert "besides, which went with its sandbox (-v lists them)" not in first  # as with -q

    (project.path / "passes.txt").touch()
    second = start(project, "--lf", "-n2", "--isolate-all").communicate(timeout=PATIENCE)[0]

    assert "1 passed" in second, second
    assert "besides, which went with its sandbox" in second
    assert settled() == NOTHING


def test_a_program_that_calls_pytest_is_told_that_it_cannot_go_on_in_a_sandbox(project: Project) -> None:
    project.write(program=f"import pytest; raise SystemExit(pytest.main(['--isolate-session', *{project.options}]))")

    result = project.pytester.runpython(project.path / "program.py")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --isolate-session: pytest.main() runs in another program, *-m pytest`."])


def test_a_program_is_told_how_to_do_without_the_sandbox_that_the_project_wants(project: Project) -> None:
    project.write(program=f"import pytest; raise SystemExit(pytest.main({project.options}))")
    (project.path / "pytest.ini").write_text("[pytest]\nisolate_session = true\n")

    result = project.pytester.runpython(project.path / "program.py")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *pytest.main()* `-o isolate_session=false` does without the sandbox."])


def test_a_pytest_in_the_sandbox_needs_no_second_one(project: Project) -> None:
    project.write(
        test_it="""
        import subprocess, sys
        import pytest

        @pytest.mark.parametrize("_", [None, pytest.param(None, marks=pytest.mark.isolate)], ids=["plain", "isolated"])
        def test_runs_another(_):
            command = [sys.executable, "-m", "pytest", *OPTIONS, "--isolate-session", "test_other.py"]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            assert "isolate: session in the sandbox of the pytest that has started this one" in done.stdout
        """.replace("OPTIONS", repr(project.options)),
        test_other="def test_it(): pass",
    )
    output = start(project, "test_it.py").communicate(timeout=PATIENCE)[0]

    assert "2 passed" in output, output


def test_a_variable_that_is_left_over_or_written_by_hand_does_not_pass_for_a_sandbox(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(IN_SESSION, "1")
    project.write(test_it="import os\ndef test_it(): assert os.path.ismount('/.isolate-session')")

    result = project.run("--isolate-session")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["isolate: session in a sandbox (*"])


def test_its_start_loads_no_more_than_it_must_and_hides_nothing_from_the_garbage_collector(project: Project) -> None:
    project.write(
        test_it="""
        import gc, sys
        import pytest

        def test_it():
            assert any(each is pytest.Item for each in gc.get_objects())  # Hypothesis looks for what refers to its own
            rooms = ("sandbox.kept_changes", "sandbox.outcome", "session.network", "session.keeper", "linux.tcp_table")
            assert not {f"pytest_isolate.{name}" for name in rooms} & sys.modules.keys()
        """
    )

    output = start(project).communicate(timeout=PATIENCE)[0]  # the fork server has loaded and frozen all of it

    assert "1 passed" in output, output


@pytest.mark.needs("real_root")
def test_what_acts_on_the_machine_is_read_only(project: Project) -> None:
    project.write(
        test_it="""
        import os
        import pytest

        @pytest.mark.parametrize("path", ["/proc/sys/kernel/core_pattern", "/proc/loadavg", "/sys/kernel"])
        def test_it(path):
            assert os.path.exists(path)
            assert os.statvfs(path).f_flag & os.ST_RDONLY

        def test_groups_can_be_made():
            assert os.access("/sys/fs/cgroup", os.W_OK)
        """
    )

    project.run("--isolate-session").assert_outcomes(passed=4)
