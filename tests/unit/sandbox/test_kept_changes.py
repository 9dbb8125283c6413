"""What stays of a run's changes, and how it gets out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_isolate.linux.native import Fd
from pytest_isolate.plan.plan import WritableLayer
from pytest_isolate.sandbox.kept_changes import Kept, take
from pytest_isolate.sandbox.outcome import Change
from tests.support.short_files import short_files


def changes(text: str) -> list[Change]:
    return [Change(line[0], line[2:]) for line in text.splitlines()]  # type: ignore[arg-type]


def paths(found: list[Change]) -> list[str]:
    return [change.path for change in found]


def test_trees_and_prefixes_stay_and_what_is_temporary_is_not_worth_a_word() -> None:
    kept = Kept(trees=("/p/.cache", "/p/r.xml"), prefixes=("/p/.coverage.",), temporary=("/tmp/pytest",))

    staying, rest = kept.split(
        changes("M /p/.cache/v\nA /p/r.xml\nA /p/.coverage.host.1\nA /p/r.xml.old\nA /tmp/pytest/a\nA /tmp/pytest-b")
    )

    assert paths(staying) == ["/p/.cache/v", "/p/r.xml", "/p/.coverage.host.1"]
    assert paths(rest) == ["/p/r.xml.old", "/tmp/pytest-b"]


def test_folders_of_a_name_stay_where_the_project_has_them() -> None:
    kept = Kept(project=("/p",), folders=("saved",))

    staying, rest = kept.split(changes("A /p/a/saved\nA /p/a/saved/1\nD /p/saved/2\nA /p/saved.old\nA /q/saved/3"))

    assert paths(staying) == ["/p/a/saved", "/p/a/saved/1", "/p/saved/2"]
    assert paths(rest) == ["/p/saved.old", "/q/saved/3"]


def test_a_new_folder_on_the_way_to_what_stays_is_not_thrown_away() -> None:
    _, rest = Kept(trees=("/p/out/deep/r.xml",)).split(changes("A /p/out\nA /p/out/deep\nA /p/out/deep/r.xml"))
    assert rest == []


def test_bytecode_stays_whose_source_does(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).touch()
    cache = tmp_path / "__pycache__"

    staying, rest = Kept().split(
        changes(
            f"A {cache}\nA {cache}/a.cpython-311.pyc\nA {cache}/gone.cpython-311.pyc\nM {tmp_path}/b.py\n"
            f"M {cache}/b.cpython-311.pyc"
        )
    )

    assert paths(staying) == [f"{cache}/a.cpython-311.pyc"]
    assert paths(rest) == [f"{cache}/gone.cpython-311.pyc", f"{tmp_path}/b.py", f"{cache}/b.cpython-311.pyc"]


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Fd]:
    (tmp_path / "scratch/u0").mkdir(parents=True)
    descriptor = Fd(os.open(tmp_path / "scratch", os.O_RDONLY))
    yield descriptor
    os.close(descriptor)


def test_files_links_folders_and_their_absence_get_out(tmp_path: Path, scratch: Fd) -> None:
    host, upper = tmp_path / "host", tmp_path / "scratch/u0"
    for folder in (host / "old", host / "was_folder", upper / "new/deep"):
        folder.mkdir(parents=True)
    (host / "old/file").touch()
    (host / "gone").touch()
    (host / "changed").write_text("before")
    (upper / "changed").write_text("after")
    (upper / "changed").chmod(0o640)
    (upper / "was_folder").write_text("now a file")
    (upper / "new/deep/link").symlink_to("../file")
    layers = [WritableLayer(upper="u0", seen=str(host))]
    names = "D old\nD gone\nM changed\nM was_folder\nA new\nA new/deep\nA new/deep/link"

    lost = take(scratch, layers, [Change(each.kind, f"{host}/{each.path}") for each in changes(names)])

    assert lost == []
    assert sorted(str(path.relative_to(host)) for path in host.rglob("*")) == [
        "changed", "new", "new/deep", "new/deep/link", "was_folder",
    ]  # fmt: skip
    assert (host / "changed").read_text() == "after"
    assert (host / "changed").stat().st_mode & 0o777 == 0o640
    assert (host / "was_folder").read_text() == "now a file"
    assert os.readlink(host / "new/deep/link") == "../file"


def test_what_cannot_be_put_where_it_belongs_is_told(tmp_path: Path, scratch: Fd) -> None:
    layers = [WritableLayer(upper="u0", seen=str(tmp_path))]
    assert take(scratch, layers, [Change("A", f"{tmp_path}/missing")]) == [
        f"{tmp_path}/missing: No such file or directory"
    ]


def test_what_cannot_be_written_whole_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path, scratch: Fd) -> None:
    host, upper = tmp_path / "host", tmp_path / "scratch/u0"
    host.mkdir()
    (host / "file").write_text("before")
    (upper / "file").write_bytes(bytes(20_000))
    with short_files():
        lost = take(scratch, [WritableLayer(upper="u0", seen=str(host))], [Change("M", f"{host}/file")])

    assert lost == [f"{host}/file: File too large"]
    assert os.listdir(host) == ["file"]
    assert (host / "file").read_text() == "before"
