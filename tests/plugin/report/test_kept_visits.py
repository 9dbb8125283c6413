"""``kept enter`` and ``kept run``: back into the sandbox of a failed test, with the files that it wrote."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.image_layers import entry, layout, programs, tar
from tests.support.project import Project
from tests.support.terminal import PROMPT, Person, shell_at_a_terminal

FAILING = """
    import os, shutil
    import pytest

    @pytest.fixture(scope="session", autouse=True)
    def settings():
        os.environ["FROM_FIXTURE"] = "yes"

    @pytest.mark.isolate(env={"FROM_MARKER": "as well"}, hostname="here")
    def test_writes_and_fails(tmp_path):
        with open("text", "a") as file:
            file.write("new\\n")
        os.makedirs("made/deep")
        os.chmod("made", 0o750)
        with open("made/deep/script", "w") as file:
            file.write("#!/bin/sh\\necho works\\n")
        os.chmod("made/deep/script", 0o700)
        os.symlink("deep", "made/link")
        if os.path.isdir("folder"):
            shutil.rmtree("folder")
        with open("folder", "w") as file:
            file.write("a file now")
        (tmp_path / "temporary").write_text("here")
        assert 0
"""
KEPT = [sys.executable, "-m", "pytest_isolate", "kept"]
LAYER = "test_writes_and_fails"

pytestmark = pytest.mark.needs("overlay")


@pytest.fixture
def kept(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose layers are kept in a place of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(project.path / "cache"))
    monkeypatch.delenv("FROM_FIXTURE", raising=False)
    project.write(test_it=FAILING)
    (project.path / "text").write_text("old\n")
    (project.path / "folder" / "within").mkdir(parents=True)
    return project


def run(*words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """``kept run``, from another folder than the test's."""
    command = [*KEPT, "run", *options, LAYER, "--", *words]
    return subprocess.run(command, cwd="/", text=True, check=False, capture_output=True, timeout=300)


def shell(script: str, *, options: tuple[str, ...] = ()) -> str:
    """What ``kept run`` of a script shows."""
    done = run("sh", "-c", script, options=options)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def test_a_program_finds_what_the_test_had_and_its_changes_are_thrown_away_unless_told(kept: Project) -> None:
    kept.isolated("--isolate-keep=failed").stdout.fnmatch_lines("python -m pytest_isolate kept enter ??????")
    look = "pwd; cat text folder; made/link/script; stat -c %a made made/deep/script; "
    look += "hostname; echo $FROM_FIXTURE $FROM_MARKER"
    files = sorted(str(path) for path in kept.path.rglob("*") if "cache" not in path.parts)

    seen = [*shell(f"{look}; echo more > text; rm -r made").split("\n")]

    assert seen == [str(kept.path), "old", "new", "a file nowworks", "750", "700", "here", "yes as well", ""]
    assert [*shell(look).split("\n")] == seen
    shell("echo more >> text; rm -r made; mkdir -m 700 other", options=("--write",))
    assert shell("cat text; stat -c %a other; ls") == "old\nnew\nmore\n700\n" + shell("ls")
    assert "made" not in shell("ls")
    assert sorted(str(path) for path in kept.path.rglob("*") if "cache" not in path.parts) == files
    assert (kept.path / "text").read_text() == "old\n"


def test_a_program_ends_as_it_would_outside(kept: Project) -> None:
    kept.isolated("--isolate-keep=failed")

    assert run("sh", "-c", "exit 7").returncode == 7
    assert run("sh", "-c", "kill -TERM $$").returncode == 128 + 15
    outside = subprocess.run(["env", "no-such-program"], capture_output=True, text=True, check=False)
    reason = outside.stderr.rpartition(": ")[2]  # "Permission denied", if somebody else's folder is in PATH
    missing = run("no-such-program")
    assert (missing.returncode, missing.stderr) == (outside.returncode, f"no-such-program: {reason}")
    assert run("/").returncode == 126
    without = subprocess.run([*KEPT, "run", LAYER], capture_output=True, text=True, check=False)
    assert (without.returncode, without.stderr) == (
        125,
        f"write the program behind --: kept run {LAYER} -- PROGRAM [ARGUMENT...]\n",
    )


@pytest.mark.needs("memory")
def test_limits_and_network_are_those_of_the_test(kept: Project) -> None:
    kept.isolated("--isolate-keep=failed", "--isolate-memory=60M", "--isolate-timeout=1")
    eats = "import sys; sys.stdout.write('begins'); sys.stdout.flush(); b'x' * (200 << 20)"

    done = run(sys.executable, "-c", eats)

    assert (done.returncode, done.stdout) == (128 + 9, "begins")
    assert [line.split(":")[0].strip() for line in shell("tail -n +3 /proc/net/dev").splitlines()] == ["lo"]
    shell("sleep 1.5")  # the time-out was the test's


def enters(person: Person, command: str) -> None:
    person.types(f"{shlex.join([*KEPT, *command.split()])}; echo sta''tus $?\n")


def begins(person: Person) -> None:
    """A program that ends never has come to the foreground."""
    person.types("sh -c \"echo beg''ins; exec sleep 10000\"\n")
    person.waits_for("begins")


def test_a_shell_has_a_terminal_with_job_control_and_a_size(kept: Project) -> None:
    kept.isolated("--isolate-keep=failed")
    with shell_at_a_terminal(kept.path, os.environ) as person:
        person.resizes(31, 97)
        before = person.attributes()
        enters(person, f"enter {LAYER}")
        person.waits_for(f"with what 'test_it.py::{LAYER}' wrote. What you change is thrown away")
        assert person.runs("cat text") == "old\nnew"
        assert person.runs("tty") == "/dev/pts/0"
        assert person.runs("stty size") == "31 97"
        person.resizes(32, 98)
        while person.runs("stty size") != "32 98":
            pass
        begins(person)
        person.types("\x03")  # ends sleep, and no shell
        person.waits_for(PROMPT)  # what is typed before may be shown in the middle of that
        assert person.runs("hostname") == "here"
        begins(person)
        person.types("\x1a")
        person.waits_for("Stopped")
        person.waits_for(PROMPT)
        assert "sleep 10000" in person.runs("jobs; kill -KILL %1; fg")
        person.types("echo more >> text; exit 7\n")
        person.waits_for("status 7")
        assert person.runs("cat text") == "old"
        assert person.attributes() == before

        enters(person, f"enter --write {LAYER}")
        person.waits_for("What you change is kept in the layer")
        assert person.runs("cat text; echo more >> text") == "old\nnew"
        person.types("exit\n")
        person.waits_for("status 0")
        assert person.runs(shlex.join([*KEPT, "run", LAYER, "--", "cat", "text"])) == "old\nnew\nmore"


@pytest.mark.parametrize("pipe", ["", " | cat"])
def test_ctrl_z_stops_a_program_and_ctrl_c_ends_it(kept: Project, pipe: str) -> None:
    """Also what it has started, and where its output goes to another program."""
    kept.isolated("--isolate-keep=failed")
    inner = "trap 'echo go''es on' CONT; echo beg''ins; while sleep 0.1; do :; done"
    program = shlex.join([*KEPT, "run", LAYER, "--", "sh", "-c", f"sh -c {shlex.quote(inner)}; echo never"])
    with shell_at_a_terminal(kept.path, os.environ) as person:
        person.types(f"{program}{pipe}\n")
        person.waits_for("begins")
        person.types("\x1a")
        person.waits_for("Stopped")
        assert person.runs("echo $((6 * 7))").splitlines()[-1] == "42"  # behind the rest of the shell's message
        person.types("fg\n")
        person.waits_for("goes on")
        person.types("\x03")
        person.waits_for(PROMPT)
        assert person.runs("echo status $?") == "status 130"  # of cat as well


def test_a_program_that_is_told_to_end_by_a_signal_ends(kept: Project) -> None:
    kept.isolated("--isolate-keep=failed")
    script = "trap 'echo ends; exit 3' TERM; echo begins; while :; do sleep 0.1; done"
    command = [*KEPT, "run", LAYER, "--", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "begins\n"
        program.terminate()
        assert program.stdout.read() == "ends\n"
        assert program.wait() == 3


def test_an_image_is_the_root_again(kept: Project) -> None:
    files = (entry(path, content, mode=0o755) for path, content in programs("sh", "cat", "ls").items())
    layout(kept.path / "fixtures_images/tiny", tar(*files, entry("etc/motd", "hello\n"), entry("tmp/", mode=0o1777)))
    kept.write(
        test_it=f"""
        import os
        def {LAYER}(tmp_path):
            with open("/etc/motd", "w") as file:
                file.write("changed\\n")
            with open("text", "a") as file:
                file.write("new\\n")
            (tmp_path / "temporary").write_text(str(tmp_path))
            assert 0
        """
    )
    kept.isolated("--isolate-keep=failed", "--isolate-image=tiny")
    shutil.rmtree(kept.path / "runpytest-0")  # pytest keeps the last three

    assert shell("cat /etc/motd text; ls /bin; echo more > /etc/motd; cat run*/*/temporary")[:-1].split("\n")[:-1] == [
        "changed", "old", "new", "cat", "ls", "sh",
    ]  # fmt: skip


def test_what_cannot_be_entered_is_told(kept: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("true").stderr == f"{LAYER}: there is no such layer; python -m pytest_isolate kept list shows all.\n"
    kept.isolated("--isolate-keep=failed")
    moved = kept.path.with_name("moved")
    kept.path.rename(moved)
    monkeypatch.setenv("XDG_CACHE_HOME", str(moved / "cache"))

    done = run("true")

    moved.rename(kept.path)
    assert done.returncode == 125
    assert f"cannot enter the folder on {kept.path}: ENOENT" in done.stderr


def test_a_visit_ends_with_its_terminal_and_nothing_of_it_stays(kept: Project) -> None:
    kept.isolated("--isolate-keep=failed")
    sleeping = f"1000.{os.getpid()}"
    with shell_at_a_terminal(kept.path, os.environ) as person:
        enters(person, f"enter {LAYER}")
        person.waits_for("wrote")
        person.runs(f"sleep {sleeping} & true")
        wait_until(lambda: bool(sleepers(sleeping)))  # the shell goes on before its child has become sleep
    wait_until(lambda: not sleepers(sleeping))


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for something that takes other processes a moment."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sleepers(seconds: str) -> list[str]:
    """Pids of processes that sleep so long."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes() == f"sleep\0{seconds}\0".encode():
                found.append(path.parent.name)
    return found
