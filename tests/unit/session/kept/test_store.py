"""The store of kept layers: its bounds, its age, what a killed process left."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_isolate.session.kept.store import Bounds, KeptLayer, KeptStore, NotKeptError
from pytest_isolate.session.kept.surroundings import Surroundings
from pytest_isolate.spec.spec import Spec

DAY = 86400
_USUAL = Bounds()
AROUND = Surroundings(
    spec=Spec.of(memory="50M", env={"A": "1", "B": None}, host_ports=[80], writable=["/w"], network="bridge:b"),
    cwd="/p",
    places=("/p", "/tmp/\udcff"),
    images="/p/images",
    cgroup=None,
    degrade=True,
    env=(("A", "2"), ("C", None)),
)


def layer(test: str, size: int = 10) -> KeptLayer:
    return KeptLayer(
        test=test, result="failed", image=None, size=size, changes=(), lost=(), layers=(), surroundings=AROUND
    )


def add(store: KeptStore, test: str, *, bounds: Bounds = _USUAL, age: float = 0) -> str:
    name = store.add(layer(test), bounds, lambda _: [])
    file = store.path / name / "layer.json"
    when = file.stat().st_mtime - age
    os.utime(file, (when, when))
    return name


def names(store: KeptStore) -> list[str]:
    return [entry.layer.test for entry in store.entries()]


@pytest.fixture
def store(tmp_path: Path) -> KeptStore:
    return KeptStore(tmp_path / "cache" / "kept")


def test_a_layer_comes_back_as_it_was_kept(store: KeptStore) -> None:
    kept = KeptLayer(
        test="a",
        result="passed",
        image="debian",
        size=5,
        changes=(("A", "/a\udcff"),),
        lost=(),
        layers=(("/", ("/l",)),),
        surroundings=AROUND,
    )
    store.add(kept, Bounds(), lambda _: ["/a: no"])

    (entry,) = store.entries()

    assert entry.layer.changes == kept.changes
    assert entry.layer.layers == kept.layers
    assert entry.layer.lost == ("/a: no",)
    assert entry.layer.surroundings == AROUND


def test_nobody_else_can_enter_the_store(store: KeptStore) -> None:
    name = add(store, "a")
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((store.path / name).stat().st_mode) == 0o700


@pytest.mark.parametrize("bounds", [Bounds(number=2), Bounds(size=25)])
def test_the_oldest_of_earlier_sessions_give_way(store: KeptStore, bounds: Bounds) -> None:
    add(store, "older", age=2 * DAY)
    add(store, "old", age=DAY)

    add(store, "new", bounds=bounds)

    assert names(store) == ["old", "new"]


@pytest.mark.parametrize(
    ("bounds", "why"), [(Bounds(number=1), "this session has kept 1"), (Bounds(size=9), "it takes")]
)
def test_a_layer_for_which_there_is_no_room_is_not_kept(store: KeptStore, bounds: Bounds, why: str) -> None:
    add(store, "first", bounds=Bounds(number=1))
    with pytest.raises(NotKeptError, match=why):
        add(store, "second", bounds=bounds)
    assert names(store) == ["first"]


def test_a_sweep_removes_what_is_old_too_much_or_not_whole(store: KeptStore) -> None:
    for test, age in (("ancient", 15), ("old", 2), ("young", 1)):
        add(store, test, age=age * DAY)
    (store.path / "abcdef" / "files").mkdir(parents=True)

    assert store.sweep(Bounds(number=1)) == 2

    assert names(store) == ["young"]
    assert not (store.path / "abcdef").exists()


def test_nothing_stays_of_a_layer_that_could_not_be_copied(store: KeptStore) -> None:
    def fail(_: int) -> list[str]:
        raise OSError(28, "No space left on device")

    filling: Callable[[int], list[str]] = fail
    with pytest.raises(OSError, match="No space"):
        store.add(layer("a"), Bounds(), filling)
    assert not [path.name for path in store.path.iterdir() if path.is_dir()]


def test_a_sweep_of_no_store_makes_none(store: KeptStore) -> None:
    assert store.sweep(Bounds()) == 0
    assert not store.path.exists()


def test_a_layer_is_replaced_under_its_own_name_and_within_the_bounds_of_the_last_session(store: KeptStore) -> None:
    bounds = Bounds(number=2, size=30)
    old, name = add(store, "old", age=DAY), add(store, "mine", bounds=bounds)
    entry = next(entry for entry in store.entries() if entry.id == name)
    later = KeptStore(store.path)

    with pytest.raises(NotKeptError, match="it takes"):
        later.replace(entry, layer("mine", size=31), lambda _: [])
    assert [entry.id for entry in later.entries()] == [old, name]
    later.replace(entry, layer("mine", size=25), lambda _: ["lost"])

    assert later.bounds() == bounds
    assert [(entry.id, entry.layer.size, entry.layer.lost) for entry in later.entries()] == [(name, 25, ("lost",))]
