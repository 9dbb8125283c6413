"""The store of unpacked layers: shared by processes, and swept."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from pytest_isolate.images.store.store import Stack, Store, StoredLayer, chain_ids, default_path
from pytest_isolate.spec.errors import ImageError
from tests.support.image_layers import digest


def test_chain_ids_are_those_of_the_specification() -> None:
    a, b = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    assert chain_ids([a, b]) == ["a" * 64, digest(f"{a} {b}".encode()).removeprefix("sha256:")]


def test_the_store_is_in_the_users_cache_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_path() == Path("/somewhere/pytest-isolate-ns/images-1")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the specification
    assert default_path() == Path("~/.cache/pytest-isolate-ns/images-1").expanduser()


def _layer(chain: str) -> StoredLayer:
    return StoredLayer(
        chain=chain, diff_id="d", parent=None, tree="t", entries=1, size=1, owners=True, left_out=(("x", 1),)
    )


def _add(place: Path, chain: str, file: str) -> None:
    with Store(place).add_layer(chain) as tree:
        with open(file, "a") as note:
            note.write("there\n" if tree is None else "unpacks\n")
        if tree is not None:
            Path(tree, "file").touch()
            Store(place).publish(tree, _layer(chain))


def test_a_layer_that_several_processes_want_is_unpacked_by_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_add, args=(tmp_path / "s", "c", str(tmp_path / "note"))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted((tmp_path / "note").read_text().split()) == ["there", "there", "there", "unpacks"]
    assert Store(tmp_path / "s").layer("c") == _layer("c")


def test_what_was_not_finished_is_no_layer_and_is_gone_with_the_next_try(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.add_layer("c"):
        raise RuntimeError
    (tmp_path / "tmp/c.killed/fs").mkdir(parents=True)
    assert store.layers() == []
    assert store.layer("c") is None
    _add(tmp_path, "c", str(tmp_path / "note"))
    assert os.listdir(tmp_path / "tmp") == []


def _stack(digest_: str, *chain: str, source: str = "/a") -> Stack:
    return Stack(digest=digest_, layers=chain, env=(("A", "b"),), sources=(source,))


def test_a_sweep_leaves_what_an_image_needs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for chain in ("base", "top", "other"):
        _add(tmp_path, chain, str(tmp_path / "note"))
    store.register(_stack("sha256:1", "base", "top"))
    store.register(_stack("sha256:2", "base"))
    (tmp_path / "tmp/x.killed").mkdir()
    assert store.sweep() == 1
    assert store.layers() == ["base", "top"]
    store.remove_image("sha256:1")
    assert store.sweep() == 1
    assert store.layers() == ["base"]
    assert os.listdir(tmp_path / "tmp") == []


def test_an_image_is_one_whose_layers_are_there_and_keeps_all_its_folders(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.register(_stack("sha256:1", "base"))
    assert store.image("sha256:1") is None
    _add(tmp_path, "base", str(tmp_path / "note"))
    store.register(_stack("sha256:1", "base", source="/b"))
    store.register(_stack("sha256:1", "base", source="/c"))
    assert store.image("sha256:1") == Stack(
        digest="sha256:1", layers=("base",), env=(("A", "b"),), sources=("/a", "/b", "/c")
    )


def test_a_store_that_cannot_be_written_says_where_it_is_and_how_to_move_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ImageError, match="XDG_CACHE_HOME names another place"),
        Store(tmp_path / "file/x").add_layer("c"),
    ):
        pass
