"""What a test may write, and that nothing of it reaches the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.in_sandbox import ROOT, Job, perform, prepared, sh

pytestmark = pytest.mark.needs("userns", "overlay")


def test_a_file_that_is_written_changed_or_deleted_is_as_before_outside(folder: Path, layout: str) -> None:
    (folder / "changed").write_text("before")
    (folder / "deleted").write_text("before")
    (folder / "tree/deep").mkdir(parents=True)
    (folder / "tree/deep/file").write_text("before")
    script = "echo new > new; echo after > changed; rm deleted; rm -r tree; ls; cat new changed"
    seen = sh(script, layout=layout, cwd=str(folder), important=(str(folder),))
    assert (seen.status, seen.lines) == (0, ["changed", "new", "new", "after"])
    assert sorted(os.listdir(folder)) == ["changed", "deleted", "tree"]
    assert (folder / "changed").read_text() == (folder / "tree/deep/file").read_text() == "before"
    assert seen.changes == [f"A {folder}/new", f"D {folder}/deleted", f"D {folder}/tree", f"M {folder}/changed"]


def test_a_directory_can_be_removed_and_made_again_and_is_empty_then(folder: Path, layout: str) -> None:
    (folder / "tree").mkdir()
    (folder / "tree/file").touch()
    seen = sh("rm -r tree && mkdir tree && ls tree", layout=layout, cwd=str(folder), important=(str(folder),))
    assert (seen.status, seen.output) == (0, "")
    assert seen.changes == [f"D {folder}/tree/file"]


def test_nothing_is_reported_as_changed_by_a_run_that_changes_nothing(layout: str) -> None:
    assert sh("true", layout=layout).changes == []
    assert sh("true", layout=layout, user="root").changes == []


@pytest.mark.skipif(not ROOT, reason="only root may write there, as outside")
def test_root_may_write_everywhere(layout: str) -> None:
    name = "isolate-test-marker"
    script = f"for each in / /etc /usr /var/log; do touch $each/{name} || exit 1; done; rm /etc/passwd; cat /etc/passwd"
    seen = sh(script, layout=layout)
    assert seen.status == 1
    assert "No such file" in seen.output
    expected = ["D /etc/passwd", *(f"A {each}/{name}" for each in ("", "/etc", "/usr", "/var/log"))]
    assert seen.changes == sorted(expected)
    assert Path("/etc/passwd").exists()
    assert not Path(f"/{name}").exists()


@pytest.mark.skipif(ROOT, reason="root may")
@pytest.mark.parametrize("place", ["/", "/etc", "/usr", "/var/log"])
def test_a_user_may_not_write_where_he_may_not_outside(place: str) -> None:
    seen = sh(f"touch {place}/isolate-test-marker", layout="rootless")
    assert seen.status != 0
    assert "Permission denied" in seen.output


@pytest.mark.parametrize("place", ["/tmp", "/var/tmp", "/dev/shm"])
def test_temporary_folders_are_writable_and_private(place: str, layout: str) -> None:
    name = f"{place}/isolate-test-{os.getpid()}"
    seen = sh(f"mkdir {name} && echo x > {name}/file && cat {name}/file", layout=layout)
    assert (seen.status, seen.lines) == (0, ["x"])
    assert not Path(name).exists()


def test_what_the_session_makes_after_the_sandbox_was_built_is_seen(folder: Path, layout: str) -> None:
    """A higher-scoped fixture may write files while the next sandbox stands ready: nothing has been looked up in it."""
    (folder / "old").write_text("old")
    later = f"cd {folder}; echo later > later; echo new > old.new; mv old.new old; mkdir made"
    seen = perform(
        Job(
            script="cat later old; ls -d made",
            layout=layout,
            cwd=str(folder),
            important=(str(folder),),
            meanwhile=later,
        )
    )
    assert (seen.status, seen.lines) == (0, ["later", "new", "made"])


def test_a_directory_is_renamed_by_root_and_refused_like_between_file_systems_else(folder: Path, layout: str) -> None:
    (folder / "before").mkdir()
    (folder / "before/file").touch()
    code = "import os; os.rename('before', 'after'); print(os.listdir('after'))"
    seen = sh(f'python3 -c "{code}"', layout=layout, cwd=str(folder), important=(str(folder),))
    assert ("Invalid cross-device link" in seen.output) if layout == "rootless" else (seen.lines == ["['file']"])
    assert sh("mv before after && ls after", layout=layout, cwd=str(folder)).lines == ["file"]


def test_bound_through_a_path_keeps_what_is_written(folder: Path, layout: str) -> None:
    (folder / "kept").mkdir()
    (folder / "kept/file").write_text("before")
    script = "echo after > kept/file; echo x > kept/new; echo x > lost"
    seen = sh(script, layout=layout, cwd=str(folder), important=(str(folder),), writable=[str(folder / "kept")])
    assert (folder / "kept/file").read_text() == "after\n"
    assert (folder / "kept/new").exists()
    assert not (folder / "lost").exists()
    assert seen.changes == [f"A {folder}/lost"]


def test_the_writable_layer_is_no_larger_than_asked_for(layout: str) -> None:
    seen = sh("head -c 3000000 /dev/zero > /tmp/isolate-test-big", layout=layout, disk="2M")
    assert seen.status != 0
    assert "No space left" in seen.output


@pytest.mark.parametrize(
    "name", ["a b", "a:b", "a,b", "a\\b", '":,\\', "lower\tdir", "a\rb", "ümläut", "a=b,upperdir=c"]
)
def test_a_mount_point_may_have_any_name(name: str, layout: str) -> None:
    quoted = f"'/mnt/isolate-test/{name}'"
    setup = f"mount -t tmpfs none /mnt; mkdir -p {quoted}; mount -t tmpfs none {quoted}; echo found > {quoted}/file"
    seen = prepared(setup, Job(script=f"cat {quoted}/file; echo x > {quoted}/new", layout=layout))
    assert (seen.status, seen.output) == (0, "found\n")
    assert seen.changes == [f"A /mnt/isolate-test/{name}/new"]
    assert seen.lacks == []
