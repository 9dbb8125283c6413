"""syrupy: snapshots are written and deleted as in a plain run."""

from __future__ import annotations

import pytest

from tests.support.neighbourhood import Neighbourhood


@pytest.mark.needs("sandbox", "syrupy")
def test_syrupy_writes_and_deletes_what_it_does_in_a_plain_run(neighbours: Neighbourhood) -> None:
    neighbours.load("syrupy")
    tests = """
        import pytest
        from syrupy.extensions.json import JSONSnapshotExtension
        from syrupy.extensions.single_file import SingleFileSnapshotExtension

        class Ours(JSONSnapshotExtension): pass
        @pytest.fixture
        def ours(snapshot): return snapshot.use_extension(Ours)
        @pytest.mark.parametrize("number", [1, 2])
        def test_number(snapshot, number): assert snapshot == number
        def test_several(snapshot):
            assert snapshot == "first"
            assert snapshot(name="named") == "second"
            assert "third" == snapshot
        def test_ours(ours): assert ours == {"a": [1]}
        def test_bytes(snapshot): assert snapshot(extension_class=SingleFileSnapshotExtension) == b"\\0\\xff"
        @pytest.mark.skip
        def test_skipped(snapshot): assert snapshot == 1
    """
    changed = tests.replace("== number", "== -number").replace("test_several", "test_renamed")
    neighbours.project.write(test_it=tests)
    for step in ("--snapshot-update", "-rs"):
        assert "snapshots" in neighbours.same_tree("__snapshots__", step)
    neighbours.project.write(test_it=changed)
    assert "3 snapshots failed" in neighbours.same_tree("__snapshots__", "-rs")
    assert "3 unused snapshots deleted" in neighbours.same_tree("__snapshots__", "--snapshot-update")


@pytest.mark.needs("sandbox", "syrupy")
def test_a_snapshot_of_a_class_that_is_made_inside_is_known_and_not_deleted(neighbours: Neighbourhood) -> None:
    neighbours.load("syrupy")
    neighbours.project.write(
        test_it="""
        import pytest
        from syrupy.extensions.json import JSONSnapshotExtension

        @pytest.fixture
        def ours(snapshot):
            class Local(JSONSnapshotExtension): pass
            return snapshot.use_extension(Local)
        def test_it(ours): assert ours == [1]
        """
    )
    neighbours.plain("--snapshot-update")
    assert "1 snapshot passed" in neighbours.same_tree("__snapshots__")
    (snapshot,) = (neighbours.path / "__snapshots__").rglob("*.json")
    snapshot.unlink()
    neighbours.project.isolated("--snapshot-update").stdout.fnmatch_lines(
        ["*test_it: a snapshot is not written*Local*"]
    )
